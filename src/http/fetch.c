/* SPDX-License-Identifier: Apache-2.0 */
#define CURL_DISABLE_TYPECHECK /* its checks look for the linked functions */
#include "http/fetch.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"

enum { FETCH_HEADERS_MAX = 100, FETCH_CONNECT_MS = 5'000 };
#define FETCH_ANSWER_BYTES (UINT64_C(64) << 20)

/* X(function) */
#define CURL_FUNCTIONS(X)                                                                          \
    X(curl_global_init_mem)                                                                        \
    X(curl_easy_init)                                                                              \
    X(curl_easy_setopt)                                                                            \
    X(curl_easy_perform)                                                                           \
    X(curl_easy_getinfo)                                                                           \
    X(curl_easy_cleanup)                                                                           \
    X(curl_easy_strerror)                                                                          \
    X(curl_slist_append)                                                                           \
    X(curl_slist_free_all)                                                                         \
    X(curl_url)                                                                                    \
    X(curl_url_set)                                                                                \
    X(curl_url_get)                                                                                \
    X(curl_url_cleanup)                                                                            \
    X(curl_free)                                                                                   \
    X(curl_version)

#undef curl_easy_setopt
#undef curl_easy_getinfo

static struct {
    bool open;
    const char *missing;
#define CURL_MEMBER(function) typeof(function) *function;
    CURL_FUNCTIONS(CURL_MEMBER)
#undef CURL_MEMBER
} curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- its memory: headers with credentials are in it, for a while ----------------------------- */

static void wipe_free(void *memory)
{
    if (memory)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

static void *wipe_resize(void *memory, size_t bytes)
{
    size_t had = memory ? malloc_usable_size(memory) : 0;
    void *larger = malloc(bytes);
    if (!larger)
        return NULL;
    if (memory)
        memcpy(larger, memory, had < bytes ? had : bytes);
    wipe_free(memory);
    return larger;
}

static void curl_open(void)
{
    static const char *const names[] = { "libcurl.so.4", "libcurl-gnutls.so.4" };
    void *library = NULL;
    for (size_t i = 0; i < 2 && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        curl.missing = "libcurl.so.4";
        return;
    }
#define CURL_LOAD(function)                                                                        \
    curl.function = (typeof(function) *)dlsym(library, #function);                                 \
    if (!curl.function)                                                                            \
        curl.missing = #function;
    CURL_FUNCTIONS(CURL_LOAD)
#undef CURL_LOAD
    curl.open = !curl.missing && curl.curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wipe_free,
                                                           wipe_resize, strdup, calloc) == CURLE_OK;
}

/* ---- one transfer --------------------------------------------------------------------------- */

struct transfer {
    const struct fetch_request *request;
    struct arena *arena;
    struct fetch_answer *answer;
    const char *source; /* as libcurl takes it */
    char *body;
    size_t used, room;
    uint64_t sent;
    int status;
    bool too_large, ended;
};

static size_t on_write(char *data, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    size_t bytes = size * count;
    uint64_t bound =
        t->request->answer_bytes_max ? t->request->answer_bytes_max : FETCH_ANSWER_BYTES;
    if (t->request->on_body && t->status < 400) {
        bool meant = !t->request->body_status || t->request->body_status == t->status;
        if (meant && t->request->on_body((struct slice){ data, bytes }, t->request->data))
            return bytes;
        t->ended = true;
        return 0;
    }
    if (t->used + bytes > bound) {
        t->too_large = true;
        return 0;
    }
    if (t->used + bytes > t->room) {
        /* What is secret is not moved about. */
        t->room = arena_secret(t->arena) ? (size_t)bound : (t->used + bytes) * 2;
        t->body = mem_resize(t->body, t->room, 1);
    }
    memcpy(t->body + t->used, data, bytes);
    t->used += bytes;
    return bytes;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    struct slice line = { data, size * count };
    if (slice_starts(line, SLICE("HTTP/"))) {
        t->answer->header_count = 0; /* of a 100 Continue, or a hop before */
        uint64_t status = 0;
        (void)slice_cut(&line, ' ');
        (void)slice_u64(slice_cut(&line, ' '), &status);
        t->status = (int)status;
        return size * count;
    }
    while (line.size && (line.data[line.size - 1] == '\n' || line.data[line.size - 1] == '\r'))
        line.size--;
    const char *colon = line.size ? memchr(line.data, ':', line.size) : NULL;
    if (!colon || t->answer->header_count == FETCH_HEADERS_MAX)
        return size * count;
    struct slice name = { line.data, (size_t)(colon - line.data) };
    struct slice value = { colon + 1, line.size - name.size - 1 };
    t->answer->headers[t->answer->header_count++] =
        (struct fetch_header){ arena_copy(t->arena, name),
                               arena_copy(t->arena, slice_trim(value)) };
    return size * count;
}

static size_t on_send(char *buffer, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    uint64_t left = t->request->body_bytes - t->sent;
    size_t room = size * count;
    if (room > left)
        room = (size_t)left;
    ssize_t got =
        pread(t->request->body_fd, buffer, room, (off_t)(t->request->body_offset + t->sent));
    if (got < 0)
        return CURL_READFUNC_ABORT;
    t->sent += (uint64_t)got;
    if (t->request->on_progress)
        t->request->on_progress(t->sent, t->request->body_bytes, t->request->data);
    return (size_t)got;
}

static int on_turn(void *user, curl_off_t total, curl_off_t now, curl_off_t to_send,
                   curl_off_t sent)
{
    const struct transfer *t = user;
    (void)total;
    (void)now;
    (void)to_send;
    (void)sent;
    return atomic_load(t->request->stop);
}

static void options_set(CURL *easy, struct transfer *t, struct curl_slist *headers)
{
    const struct fetch_request *request = t->request;
    curl.curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl.curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl.curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (!request->proxied)
        curl.curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); /* control is not behind a proxy */
    curl.curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl.curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl.curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                          (long)(request->connect_ms ? request->connect_ms : FETCH_CONNECT_MS));
    curl.curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    if (request->idle_ms) {
        curl.curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl.curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)(request->idle_ms / 1000));
    }
    curl.curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl.curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl.curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl.curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    if (t->source)
        curl.curl_easy_setopt(easy, CURLOPT_INTERFACE, t->source);
    if (request->unix_path)
        curl.curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_path);
    if (request->ca.size) {
        struct curl_blob blob = { (void *)request->ca.data, request->ca.size, CURL_BLOB_NOCOPY };
        curl.curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (request->stop) {
        curl.curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_turn);
        curl.curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
        curl.curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    }
    if (strcmp(request->method, "HEAD") == 0)
        curl.curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (request->body_fd >= 0) {
        curl.curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl.curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
        curl.curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
        curl.curl_easy_setopt(easy, CURLOPT_READDATA, t);
        curl.curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
    } else if (request->body.data) {
        curl.curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
        curl.curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    }
}

static int library(struct err *err)
{
    pthread_once(&once, curl_open);
    if (curl.open)
        return 0;
    return err_set(err, ERR_NOT_SUPPORTED, "cannot load %s; install the package libcurl4",
                   curl.missing ? curl.missing : "libcurl");
}

static int failed(const struct fetch_request *request, CURLcode code, struct err *err)
{
    const char *shown = request->shown ? request->shown : request->url;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_CANCELED, "it was called off");
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_DEADLINE, "no answer in time from %s", shown);
    if (code == CURLE_COULDNT_CONNECT)
        return err_set(err, ERR_OVERLOADED, "cannot connect to %s",
                       request->unix_path ? request->unix_path : shown);
    return err_set(err, ERR_INTERNAL, "%s: %s", shown, curl.curl_easy_strerror(code));
}

int fetch(struct arena *arena, const struct fetch_request *request, struct fetch_answer *ret,
          struct err *err)
{
    int r = library(err);
    if (r < 0)
        return r;
    *ret = (struct fetch_answer){ .headers =
                                      ARENA_ARRAY(arena, struct fetch_header, FETCH_HEADERS_MAX) };
    struct transfer t = { .request = request, .arena = arena, .answer = ret };
    if (request->source)
        t.source = arena_format(arena, "host!%s", request->source);
    /* No `Expect: 100-continue`: it would cost a second where nobody answers it. */
    struct curl_slist *headers = curl.curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; request->headers && request->headers[i]; i++)
        headers = curl.curl_slist_append(headers, request->headers[i]);
    CURL *easy = curl.curl_easy_init();
    if (!easy || !headers)
        mem_abort(0);
    options_set(easy, &t, headers);
    CURLcode code = curl.curl_easy_perform(easy);
    long status = 0;
    curl.curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl.curl_easy_cleanup(easy);
    curl.curl_slist_free_all(headers);

    ret->status = (int)status;
    ret->body = arena_copy(arena, (struct slice){ t.body, t.used });
    if (t.body && arena_secret(arena))
        explicit_bzero(t.body, t.room);
    free(t.body);
    if (t.too_large)
        return err_set(err, ERR_TOO_LARGE, "the answer is larger than expected");
    if (code == CURLE_OK || t.ended || (code == CURLE_SEND_ERROR && status >= 400))
        return 0;
    return failed(request, code, err);
}

/* ---- URLs: read by who sends to them, so that there is one opinion -------------------------- */

static const char *part(struct arena *arena, CURLU *url, CURLUPart what, unsigned flags)
{
    char *text = NULL;
    if (curl.curl_url_get(url, what, &text, flags) != CURLUE_OK || !text)
        return NULL;
    const char *kept = arena_string(arena, slice_of(text));
    curl.curl_free(text);
    return kept;
}

static bool url_read(struct arena *arena, CURLU *url, const char *base, const char *text,
                     struct fetch_url *ret)
{
    if ((base && curl.curl_url_set(url, CURLUPART_URL, base, 0) != CURLUE_OK) ||
        curl.curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
        part(arena, url, CURLUPART_USER, 0) || part(arena, url, CURLUPART_PASSWORD, 0))
        return false;
    (void)curl.curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
    const char *scheme = part(arena, url, CURLUPART_SCHEME, 0);
    const char *host = part(arena, url, CURLUPART_HOST, 0);
    const char *port = part(arena, url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    ret->url = part(arena, url, CURLUPART_URL, 0);
    if (!scheme || !host || !port || !ret->url ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        return false;
    ret->host = arena_lower(arena, slice_of(host));
    ret->plain = strcmp(scheme, "http") == 0;
    ret->origin = arena_format(arena, "%s://%s:%s", scheme, ret->host, port);
    return true;
}

int fetch_url(struct arena *arena, const char *base, const char *text, struct fetch_url *ret,
              struct err *err)
{
    struct fetch_url found = {};
    int r = library(err);
    if (r < 0)
        return r;
    CURLU *url = curl.curl_url();
    if (!url)
        mem_abort(0);
    bool good = url_read(arena, url, base, text, &found);
    curl.curl_url_cleanup(url);
    if (!good)
        return err_set(err, ERR_BAD_INPUT, "it is no URL of http or https that may be followed");
    *ret = found;
    return 0;
}

struct slice fetch_header_get(const struct fetch_answer *answer, const char *name)
{
    for (size_t i = 0; i < answer->header_count; i++)
        if (slice_equal_nocase(answer->headers[i].name, slice_of(name)))
            return answer->headers[i].value;
    return (struct slice){};
}

const char *fetch_library(void)
{
    pthread_once(&once, curl_open);
    return curl.open ? curl.curl_version() : NULL;
}
