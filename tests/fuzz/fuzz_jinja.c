/* Any bytes as a chat template: refused with a sentence, or rendered within a small budget into text whose
 * runs cover it and which is valid UTF-8. */
#include <stdlib.h>

#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "engine/text/jinja.h"

static void require(bool holds) {
    if (!holds) abort();
}

static const char vars[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
    "\"\\u4f60 "
    "<x> "
    "\\n\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
    "\"arguments\":{\"q\":[1,2.5,null,true]}}}]}],\"tools\":[{\"type\":\"function\"}],\"bos_"
    "token\":"
    "\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":true,\"n\":7,\"s\":\"a,b\"}";
static const char *const trusted[] = {"bos_token", "eos_token", "messages[].role", NULL};

static void check_output(const wk_jinja_out *out) {
    size_t at = 0;
    for (size_t i = 0; i < out->n_run; i++) {
        require(out->run[i].begin == at && out->run[i].end > at);
        require(i == 0 || out->run[i].user != out->run[i - 1].user);
        at = out->run[i].end;
    }
    require(at == out->text.n && wk_utf8_valid(wk_buf_str(&out->text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const wk_jinja_budget budget = {100000, (size_t)64 << 10, (size_t)4 << 20, 20, 1767323045};
    wk_json_doc *doc = NULL;
    wk_jinja *j = NULL;
    wk_jinja_out out;
    wk_err e = {0};
    int rc = wk_jinja_parse(&j, (wk_str){(const char *)data, n}, &e);
    require((rc == WICK_OK) == (j != NULL));
    if (j) {
        require(wk_json_parse(&doc, wk_cstr(vars), 32, 1000, &e) == WICK_OK);
        rc = wk_jinja_render(j, wk_json_root(doc), trusted, &budget, &out, &e);
        if (rc == WICK_OK) check_output(&out);
        wk_jinja_out_fini(&out);
    }
    require(rc == WICK_OK || (rc == WICK_E_TEMPLATE && e.code == rc && e.message[0] &&
                              wk_utf8_valid(wk_cstr(e.message))));
    wk_json_free(doc);
    wk_jinja_free(j);
    return 0;
}
