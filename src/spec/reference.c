/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/reference.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "spec/endpoint.h"

static bool is_small(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_tag_char(char c)
{
    return is_small(c) || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
int reference_check_name(struct slice name, struct err *err)
{
    bool good = name.size > 0 && name.size <= REFERENCE_NAME_MAX && is_small(name.data[0]) &&
                is_small(name.data[name.size - 1]);
    for (size_t i = 0; i < name.size && good;) {
        size_t from = i;
        if (is_small(name.data[i])) {
            i++;
            continue;
        }
        char c = name.data[i];
        while (i < name.size && name.data[i] == c)
            i++;
        good = c == '-' || (c == '.' && i - from == 1) || (c == '_' && i - from <= 2);
        good = good && i < name.size && is_small(name.data[i]);
    }
    if (good)
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no repository's name: small letters and digits, '.', '_', '__' or "
                   "hyphens between them, at most %d characters",
                   ERR_SLICE(name), (int)REFERENCE_NAME_MAX);
}

int reference_check_tag(struct slice tag, struct err *err)
{
    bool good =
        tag.size > 0 && tag.size <= REFERENCE_TAG_MAX && tag.data[0] != '.' && tag.data[0] != '-';
    for (size_t i = 0; i < tag.size && good; i++)
        good = is_tag_char(tag.data[i]);
    if (good)
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no tag: letters, digits, '_', '.' and '-', not beginning with the "
                   "last two, at most %d characters",
                   ERR_SLICE(tag), (int)REFERENCE_TAG_MAX);
}

static bool is_host(struct slice host)
{
    return memchr(host.data, '.', host.size) || memchr(host.data, ':', host.size) ||
           slice_is(host, "localhost");
}

int reference_check_host(struct slice host, struct err *err)
{
    bool good = host.size > 0 && host.size <= REFERENCE_HOST_MAX && is_host(host);
    for (size_t i = 0; i < host.size && good; i++)
        good = is_small(host.data[i]) || (host.data[i] >= 'A' && host.data[i] <= 'Z') ||
               memchr(".-:[]", host.data[i], 5);
    if (good)
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no registry's host: HOST or HOST:PORT, with a dot or a port in it, or "
                   "localhost",
                   ERR_SLICE(host));
}

/* Takes the host off, where there is one. */
static struct slice host_cut(struct slice *rest)
{
    const char *slash = memchr(rest->data, '/', rest->size);
    struct slice first = { rest->data, slash ? (size_t)(slash - rest->data) : 0 };
    if (first.size == 0 || !is_host(first))
        return (struct slice){};
    return slice_cut(rest, '/');
}

static int check_path(struct slice path, struct err *err)
{
    struct slice rest = path;
    if (path.size > REFERENCE_PATH_MAX)
        return err_set(err, ERR_BAD_INPUT, "a repository's name has at most %d characters",
                       (int)REFERENCE_PATH_MAX);
    do {
        int r = reference_check_name(slice_cut(&rest, '/'), err);
        if (r < 0)
            return r;
    } while (rest.data);
    return 0;
}

int reference_check_own(const struct reference *reference, struct err *err)
{
    struct slice name = reference->path, project = slice_cut(&name, '/');
    if (name.size && memchr(name.data, '/', name.size))
        return err_set(err, ERR_BAD_INPUT,
                       "a repository is PROJECT/NAME, and nothing deeper: push it as that");
    int r = spec_check_project_name(project, err);
    return r < 0 ? r : reference_check_name(name, err);
}

int reference_parse(struct slice text, struct reference *ret, struct err *err)
{
    struct reference reference = {};
    struct slice rest = text;
    if (text.size == 0)
        return err_set(err, ERR_BAD_INPUT, "the reference is empty");
    reference.host = host_cut(&rest);
    reference.digest = rest;
    reference.tag = slice_cut(&reference.digest, '@');
    reference.path = slice_cut(&reference.tag, ':');
    int r = 0;
    if (reference.host.size) {
        r = reference_check_host(reference.host, err);
        if (r == 0)
            r = check_path(reference.path, err);
    } else {
        r = reference_check_own(&reference, err);
    }
    if (r == 0 && reference_check_own(&reference, NULL) == 0) {
        reference.name = reference.path;
        reference.project = slice_cut(&reference.name, '/');
    }
    if (r == 0 && reference.digest.data && !spec_is_digest(reference.digest))
        r = err_set(err, ERR_BAD_INPUT, "'%s' is no digest: sha256: and 64 hexadecimal digits",
                    ERR_SLICE(reference.digest));
    if (r == 0 && !reference.tag.data && !reference.digest.data)
        reference.tag = SLICE("latest");
    else if (r == 0 && reference.tag.data)
        r = reference_check_tag(reference.tag, err);
    if (r < 0)
        return err_wrap(err, "'%s'", ERR_SLICE(text));
    *ret = reference;
    return 0;
}
