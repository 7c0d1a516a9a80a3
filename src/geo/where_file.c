/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/where_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "geo/country.h"

enum { WORDS_MAX = 4, NUMBER_BYTES = 32 };

/* ---- reading -------------------------------------------------------------------------------- */

static struct slice next_word(struct slice *rest)
{
    size_t begin = 0, end;
    while (begin < rest->size && (rest->data[begin] == ' ' || rest->data[begin] == '\t'))
        begin++;
    for (end = begin; end < rest->size && rest->data[end] != ' ' && rest->data[end] != '\t';)
        end++;
    struct slice word = { rest->data + begin, end - begin };
    *rest = (struct slice){ rest->data + end, rest->size - end };
    return word;
}

static int degrees_read(struct slice word, double most, double *ret, struct err *err)
{
    char text[NUMBER_BYTES], *end = text;
    double value = NAN;
    bool digits = word.size > 0 && word.size < sizeof text;
    for (size_t i = 0; i < word.size && digits; i++)
        digits = (word.data[i] >= '0' && word.data[i] <= '9') || word.data[i] == '.' ||
                 (word.data[i] == '-' && i == 0);
    if (digits) {
        memcpy(text, word.data, word.size);
        text[word.size] = '\0';
        value = strtod(text, &end);
    }
    if (!digits || *end || end == text || !(value >= -most && value <= most))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no number of degrees from -%g to %g",
                       ERR_SLICE(word), most, most);
    *ret = value;
    return 0;
}

static int place_read(const struct slice words[static WORDS_MAX], size_t count,
                      struct where_block *block, struct err *err)
{
    if (count != 2 && count != 4)
        return err_set(
            err, ERR_BAD_INPUT,
            "a line has a block of addresses (or default), a country's code, and perhaps "
            "latitude and longitude");
    int r = country_check(words[1], err);
    if (r < 0)
        return r;
    block->country = country_number_of(words[1]);
    if (count == 2)
        return 0;
    block->located = true;
    if ((r = degrees_read(words[2], 90, &block->latitude, err)) < 0 ||
        (r = degrees_read(words[3], 180, &block->longitude, err)) < 0)
        return r;
    return 0;
}

static int line_read(struct slice line, struct where_file *file, struct err *err)
{
    struct slice words[WORDS_MAX] = {}, rest = line;
    size_t count = 0;
    for (struct slice word = next_word(&rest); word.size && word.data[0] != '#';
         word = next_word(&rest)) {
        if (count == WORDS_MAX)
            return err_set(err, ERR_BAD_INPUT, "'%s' stands behind the longitude", ERR_SLICE(word));
        words[count++] = word;
    }
    if (count == 0)
        return 0;
    struct where_block block = {};
    bool is_default = slice_is(words[0], "default");
    int r = is_default ? 0 : ip_block_parse(words[0], &block.block, err);
    if (r == 0)
        r = place_read(words, count, &block, err);
    if (r == 0 && is_default && file->has_fallback)
        r = err_set(err, ERR_BAD_INPUT, "default is there twice");
    if (r < 0)
        return r;
    if (is_default) {
        file->has_fallback = true;
        file->fallback = block;
    } else {
        file->blocks[file->count++] = block;
    }
    return 0;
}

int where_file_parse(struct arena *arena, struct slice text, struct where_file *ret,
                     struct err *err)
{
    struct where_file file = {};
    size_t lines = 1;
    for (size_t i = 0; i < text.size; i++)
        lines += text.data[i] == '\n';
    if (lines > WHERE_BLOCKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d lines", WHERE_BLOCKS_MAX);
    file.blocks = ARENA_ARRAY(arena, struct where_block, lines);
    for (size_t number = 1; text.data; number++) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_ends(line, SLICE("\r")))
            line.size--;
        if (line_read(line, &file, err) < 0)
            return err_wrap(err, "line %zu", number);
    }
    *ret = file;
    return 0;
}

/* ---- printing ------------------------------------------------------------------------------- */

static void block_print(FILE *out, const char *name, const struct where_block *block)
{
    char code[3];
    country_code_of(block->country, code);
    fprintf(out, "%s %s", name, code);
    if (block->located) /* about a centimetre */
        fprintf(out, " %.7f %.7f", block->latitude, block->longitude);
    fputc('\n', out);
}

struct slice where_file_print(struct arena *arena, const struct where_file *file)
{
    char *text = NULL, name[IP_TEXT_BYTES];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        mem_abort(0);
    for (size_t i = 0; i < file->count; i++)
        block_print(out, ip_block_text(&file->blocks[i].block, name), &file->blocks[i]);
    if (file->has_fallback)
        block_print(out, "default", &file->fallback);
    fclose(out);
    struct slice copy = arena_copy(arena, (struct slice){ text, size });
    free(text);
    return copy;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int file_read(struct arena *arena, const char *path, struct slice *ret, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_BAD_INPUT, "'%s': %s",
                       ERR_TEXT(path), strerror(errno));
    int r = 0;
    size_t used = 0;
    char *bytes = NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > WHERE_FILE_BYTES_MAX)
        r = err_set(err, ERR_BAD_INPUT, "'%s' is no file of at most %d MiB", ERR_TEXT(path),
                    WHERE_FILE_BYTES_MAX >> 20);
    if (r == 0)
        bytes = arena_alloc(arena, (size_t)st.st_size + 1);
    while (r == 0 && used < (size_t)st.st_size) {
        ssize_t n = read(fd, bytes + used, (size_t)st.st_size - used);
        if (n <= 0)
            r = err_set(err, ERR_BAD_INPUT, "'%s' cannot be read whole", ERR_TEXT(path));
        else
            used += (size_t)n;
    }
    close(fd);
    if (r == 0)
        *ret = (struct slice){ bytes, used };
    return r;
}

int where_file_open(const char *path, const char *mmdb_path, struct where_map **ret,
                    struct err *err)
{
    struct arena *arena = arena_new();
    struct where_file file = {};
    struct slice text;
    int r = path ? file_read(arena, path, &text, err) : 0;
    if (r == 0 && path && where_file_parse(arena, text, &file, err) < 0)
        r = err_wrap(err, "'%s'", ERR_TEXT(path));
    if (r == 0)
        r = where_map_open(file.blocks, file.count, file.has_fallback ? &file.fallback : NULL,
                           mmdb_path, ret, err);
    arena_free(arena);
    return r;
}
