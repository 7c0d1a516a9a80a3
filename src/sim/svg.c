/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/svg.h"

void svg_text(FILE *out, struct slice text)
{
    bool whole = utf8_valid(text);

    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
            fprintf(out, "&#%d;", c);
        else if (c >= ' ' && (c < 0x80 || whole)) /* of ASCII, what is below is not allowed */
            fputc(c, out);
    }
}
