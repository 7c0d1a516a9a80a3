/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/names.h"

#include "base/err.h"
#include "spec/endpoint.h"

static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_capital(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* [a-z][a-z0-9]*(-[a-z0-9]+)* of 3 to `longest` characters */
static int check(struct slice name, const char *what, size_t longest, struct err *err)
{
    if (name.size == 0)
        return err_set(err, ERR_BAD_INPUT, "the %s is empty", what);
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!is_small(c) && !is_digit(c) && c != '-')
            return err_set(err, ERR_BAD_INPUT,
                           "the %s '%s' may hold small letters, digits and hyphens, not '%s'", what,
                           ERR_SLICE(name), ERR_SLICE(((struct slice){ name.data + i, 1 })));
        if (c == '-' && i > 0 && name.data[i - 1] == '-')
            return err_set(err, ERR_BAD_INPUT, "the %s '%s' may not hold '--'", what,
                           ERR_SLICE(name));
    }
    if (name.size < 3 || name.size > longest)
        return err_set(err, ERR_BAD_INPUT, "the %s '%s' has %zu characters; it needs 3 to %zu",
                       what, ERR_SLICE(name), name.size, longest);
    if (!is_small(name.data[0]))
        return err_set(err, ERR_BAD_INPUT, "the %s '%s' must begin with a letter", what,
                       ERR_SLICE(name));
    if (name.data[name.size - 1] == '-')
        return err_set(err, ERR_BAD_INPUT, "the %s '%s' must not end with a hyphen", what,
                       ERR_SLICE(name));
    return 0;
}

int spec_check_endpoint_name(struct slice name, struct err *err)
{
    static const char *const reserved[] = { "api",   "console", "registry", "www",     "mail",
                                            "admin", "status",  "why",      "default", "ns1",
                                            "ns2",   "ns3",     "ns4",      "ns5",     "ns6",
                                            "ns7",   "ns8",     "ns9",      NULL };
    int r = check(name, "endpoint name", 40, err);

    if (r < 0)
        return r;
    for (const char *const *word = reserved; *word; word++)
        if (slice_is(name, *word))
            return err_set(err, ERR_BAD_INPUT, "the endpoint name '%s' is reserved", *word);
    return 0;
}

int spec_check_project_name(struct slice name, struct err *err)
{
    return check(name, "project name", 20, err);
}

int spec_check_name(struct slice name, const char *what, struct err *err)
{
    return check(name, what, 40, err);
}

/* Words of `is_letter` and digits with single hyphens between, beginning with a letter. */
static bool is_hyphened(struct slice name, bool (*is_letter)(char c))
{
    bool good = name.size > 0 && is_letter(name.data[0]) && name.data[name.size - 1] != '-';
    for (size_t i = 0; i < name.size && good; i++)
        good = is_letter(name.data[i]) || is_digit(name.data[i]) ||
               (name.data[i] == '-' && name.data[i - 1] != '-');
    return good;
}

int spec_check_countries(struct slice name, struct err *err)
{
    bool code = name.size == 2 && is_capital(name.data[0]) && is_capital(name.data[1]);
    if (code || (name.size >= 3 && name.size <= 16 && is_hyphened(name, is_capital)))
        return 0;
    if (slice_is(name, "any") || slice_is(name, "same-country"))
        return err_set(err, ERR_BAD_INPUT, "'%s' stands alone, not in a list", ERR_SLICE(name));
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no country (two capitals of ISO 3166-1) and no set of them such as EU",
                   ERR_SLICE(name));
}

int spec_check_region(struct slice name, struct err *err)
{
    if (spec_check_countries(name, NULL) == 0 ||
        (name.size >= 2 && name.size <= 40 && is_hyphened(name, is_small)))
        return 0;
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is neither a country or a set of them (capitals) nor a PoP or a region "
                   "label (small letters, digits and single hyphens)",
                   ERR_SLICE(name));
}

static bool is_model_char(char c)
{
    return is_small(c) || is_capital(c) || is_digit(c) || c == '-' || c == '_' || c == '.' ||
           c == '/';
}

int spec_check_model_name(struct slice name, struct err *err)
{
    if (name.size == 0 || name.size > SPEC_MODEL_NAME_BYTES)
        return err_set(err, ERR_BAD_INPUT, "the model name '%s' needs 1 to %d characters",
                       ERR_SLICE(name), SPEC_MODEL_NAME_BYTES);
    bool good = is_small(name.data[0]) || is_capital(name.data[0]) || is_digit(name.data[0]);
    for (size_t i = 0; i < name.size && good; i++)
        good = is_model_char(name.data[i]) &&
               (i == 0 || name.data[i - 1] != '/' || (name.data[i] != '/' && name.data[i] != '.'));
    if (!good || name.data[name.size - 1] == '/')
        return err_set(
            err, ERR_BAD_INPUT,
            "the model name '%s' may hold letters, digits and - _ . /, and begins with a "
            "letter or digit",
            ERR_SLICE(name));
    return 0;
}

int spec_check_host(struct slice host, struct err *err)
{
    struct slice rest = host, label = {};
    unsigned labels = 0;

    if (host.size == 0 || host.size > 253)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no host name: it needs 1 to 253 characters",
                       ERR_SLICE(host));
    while (rest.data) {
        label = slice_cut(&rest, '.');
        labels++;
        bool good = label.size >= 1 && label.size <= 63 && label.data[0] != '-' &&
                    label.data[label.size - 1] != '-';
        for (size_t i = 0; i < label.size && good; i++)
            good = is_small(label.data[i]) || is_digit(label.data[i]) || label.data[i] == '-';
        if (!good)
            return err_set(err, ERR_BAD_INPUT,
                           "'%s' is no host name: labels of small letters, digits and hyphens, "
                           "with dots between",
                           ERR_SLICE(host));
    }
    if (is_digit(label.data[0]))
        return err_set(err, ERR_BAD_INPUT, "'%s' is an address, not a host name", ERR_SLICE(host));
    if (labels < 2)
        return err_set(err, ERR_BAD_INPUT, "'%s' is one label; a domain has a dot in it",
                       ERR_SLICE(host));
    return 0;
}

int spec_check_origin(struct slice origin, struct err *err)
{
    struct slice rest = origin;
    size_t scheme = slice_starts(origin, SLICE("https://"))  ? 8
                    : slice_starts(origin, SLICE("http://")) ? 7
                                                             : 0;

    if (slice_is(origin, "*"))
        return err_set(err, ERR_BAD_INPUT,
                       "'*' is no origin: name each (as in https://example.com)");
    rest = (struct slice){ origin.data + scheme, origin.size - scheme };
    bool good = scheme && rest.size && rest.size <= 260;
    struct slice port = rest;
    struct slice host = slice_cut(&port, ':');
    uint64_t number;
    if (rest.size && rest.data[0] == '[') { /* [::1]:8080 */
        const char *close = memchr(rest.data, ']', rest.size);
        size_t size = close ? (size_t)(close - rest.data) + 1 : 0;
        good = good && size > 3;
        for (size_t i = 1; i + 1 < size && good; i++)
            good = is_digit(rest.data[i]) || (rest.data[i] >= 'a' && rest.data[i] <= 'f') ||
                   rest.data[i] == ':' || rest.data[i] == '.';
        port = (struct slice){};
        if (good && size < rest.size) {
            good = rest.data[size] == ':';
            port = (struct slice){ rest.data + size + 1, rest.size - size - 1 };
        }
    } else {
        good = good && host.size;
        for (size_t i = 0; i < host.size && good; i++)
            good = is_small(host.data[i]) || is_digit(host.data[i]) || host.data[i] == '-' ||
                   host.data[i] == '.';
    }
    if (port.data)
        good = good && port.size <= 5 && slice_u64(port, &number) && number >= 1 && number <= 65535;
    if (!good)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is no origin: http or https, a host in small letters, perhaps a port "
                       "(as in https://example.com:8443)",
                       ERR_SLICE(origin));
    return 0;
}
