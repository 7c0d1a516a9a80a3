/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/country.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

/* ISO 3166-1 as of 2026: 249 codes, in order, each with a blank behind it. */
static const char codes[] =
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN "
    "BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ "
    "DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL "
    "GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM "
    "JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME "
    "MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP "
    "NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD "
    "SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO "
    "TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW ";

enum { CODE_BYTES = 3, CODE_COUNT = 249 };
static_assert(sizeof codes == CODE_COUNT * CODE_BYTES + 1, "one code is missing, or one too many");

/* What people write for one, and what it is. */
static const struct {
    const char *written, *meant;
} advice[] = {
    { "UK", "the United Kingdom's is GB" },
    { "EL", "Greece's is GR" },
    { "EU", "that is a set of countries: name the one where the machine stands" },
    { "EEA", "that is a set of countries: name the one where the machine stands" },
};

static bool capital(char c)
{
    return c >= 'A' && c <= 'Z';
}

bool country_known(struct slice code)
{
    if (code.size != 2 || !capital(code.data[0]) || !capital(code.data[1]))
        return false;
    for (const char *at = codes; *at; at += CODE_BYTES)
        if (memcmp(at, code.data, 2) == 0)
            return true;
    return false;
}

int country_check(struct slice code, struct err *err)
{
    if (country_known(code))
        return 0;
    for (size_t i = 0; i < sizeof advice / sizeof *advice; i++)
        if (slice_is(code, advice[i].written))
            return err_set(err, ERR_BAD_INPUT, "'%s' is no country's code; %s", ERR_SLICE(code),
                           advice[i].meant);
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no country's code: two capitals of ISO 3166-1, such as DE",
                   ERR_SLICE(code));
}
