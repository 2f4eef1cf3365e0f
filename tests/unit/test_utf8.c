/* UTF-8: every code point both ways, every class of wrong bytes, Unicode classes. */
#include "engine/base/utf8.h"
#include "tests/unit/unit.h"

static void all_code_points(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110100; cp++) {
        char b[4];
        uint32_t back = 1;
        const int n = wk_utf8_encode(b, cp);
        if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) {
            assert_int_equal(n, 0);
            continue;
        }
        const int want = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        if (n != want || wk_utf8_lead((uint8_t)b[0]) != n) fail_msg("U+%04X", (unsigned)cp);
        if (wk_utf8_decode(b, (size_t)n, &back) != n || back != cp)
            fail_msg("U+%04X", (unsigned)cp);
        if (wk_utf8_decode(b, (size_t)n - 1, &back)) fail_msg("U+%04X cut", (unsigned)cp);
    }
    char b[4];
    assert_int_equal(wk_utf8_encode(b, UINT32_MAX), 0);
}

/* All pairs and the borders of the three- and four-byte forms against the table of RFC 3629. */
static bool is_tail(uint8_t b) { return b >= 0x80 && b <= 0xbf; }
static int by_rfc(const uint8_t *p) {
    if (p[0] <= 0x7f) return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) return is_tail(p[1]) ? 2 : 0;
    const bool t2 = is_tail(p[2]);
    if (p[0] == 0xe0) return p[1] >= 0xa0 && p[1] <= 0xbf && t2 ? 3 : 0;
    if (p[0] == 0xed) return p[1] >= 0x80 && p[1] <= 0x9f && t2 ? 3 : 0;
    if (p[0] >= 0xe1 && p[0] <= 0xef) return is_tail(p[1]) && t2 ? 3 : 0;
    const bool t3 = t2 && is_tail(p[3]);
    if (p[0] == 0xf0) return p[1] >= 0x90 && p[1] <= 0xbf && t3 ? 4 : 0;
    if (p[0] == 0xf4) return p[1] >= 0x80 && p[1] <= 0x8f && t3 ? 4 : 0;
    return p[0] >= 0xf1 && p[0] <= 0xf3 && is_tail(p[1]) && t3 ? 4 : 0;
}

static void wrong_bytes(void **state) {
    (void)state;
    static const uint8_t third[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t c = 0; c < 36; c++) {
                const uint8_t p[4] = {(uint8_t)a, (uint8_t)b, third[c / 6], third[c % 6]};
                uint32_t cp;
                if (wk_utf8_decode((const char *)p, 4, &cp) != by_rfc(p))
                    fail_msg("%02x %02x %02x %02x", p[0], p[1], p[2], p[3]);
            }
    uint32_t cp;
    assert_int_equal(wk_utf8_decode("a", 0, &cp), 0);
}

static void texts(void **state) {
    (void)state;
    assert_true(wk_utf8_valid(WK_STR("")) && wk_utf8_valid(WK_STR("a\xc3\xbc\xf0\x9f\x98\x80")));
    assert_false(wk_utf8_valid(WK_STR("a\xc3")) || wk_utf8_valid(WK_STR("\xed\xa0\x80")));
    assert_int_equal(wk_utf8_count(WK_STR("a\xc3\xbc\xf0\x9f\x98\x80")), 3);
}

static void classes(void **state) {
    (void)state;
    assert_true(wk_cp_is_letter('a') && wk_cp_is_letter(0xdf) && wk_cp_is_letter(0x4e2d));
    assert_true(wk_cp_is_number('7') && wk_cp_is_number(0xb2) && wk_cp_is_number(0x2167));
    assert_true(wk_cp_is_mark(0x301) && wk_cp_is_punct('!') && wk_cp_is_punct('_'));
    assert_true(wk_cp_is_symbol('$') && wk_cp_is_symbol('^') && wk_cp_is_symbol(0x1f600));
    assert_false(wk_cp_is_letter('1') || wk_cp_is_number('a') || wk_cp_is_punct('$') ||
                 wk_cp_is_symbol('!') || wk_cp_is_mark('a') || wk_cp_is_letter(0x110000));
    assert_int_equal(wk_cp_lower('A'), 'a');
    assert_int_equal(wk_cp_upper(0xe4), 0xc4);
    assert_int_equal(wk_cp_lower(0x110000), 0x110000);
    static const uint32_t space[] = {9,      10,     11,     12,     13,     32,
                                     0x85,   0xa0,   0x1680, 0x2000, 0x200a, 0x2028,
                                     0x2029, 0x202f, 0x205f, 0x3000};
    static const uint32_t solid[] = {0,      8,      14,     31,     33,     0x84,
                                     0x180e, 0x1fff, 0x200b, 0x2060, 0xfeff, 0x3001};
    for (size_t i = 0; i < sizeof(space) / 4; i++) assert_true(wk_cp_is_space(space[i]));
    for (size_t i = 0; i < sizeof(solid) / 4; i++) assert_false(wk_cp_is_space(solid[i]));
    int n = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++) n += wk_cp_is_space(cp);
    assert_int_equal(n, 25); /* White_Space of Unicode */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_code_points),
                                       cmocka_unit_test(wrong_bytes), cmocka_unit_test(texts),
                                       cmocka_unit_test(classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
