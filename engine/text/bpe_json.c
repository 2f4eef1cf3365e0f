/* bpe_json.c: a learned vocabulary as tokenizer.json, as the tokenizers library of Hugging Face writes it. The
 * pre-tokenizer is named so that both sides cut the same words (pretok.def). */
#include "engine/base/json.h"
#include "engine/text/bpe_learn.h"
#include "engine/text/pretok.h"

static const char CL100K_HEAD[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}";
static const char CL100K_TAIL[] = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Failures of appending stay in the buffer, here and below: the caller looks once. */
static void put(wk_buf *b, const char *s) { (void)wk_buf_adds(b, s); }

static void put_bytes(wk_buf *b, bool with_regex) {
    put(b, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": ");
    put(b, with_regex ? "true}" : "false}");
}

static void put_cl100k(wk_buf *b, int max_digits) {
    wk_buf regex;
    wk_buf_init(&regex, 0);
    put(&regex, CL100K_HEAD);
    if (max_digits > 1) (void)wk_buf_addf(&regex, "{1,%d}", max_digits); /* as above */
    put(&regex, CL100K_TAIL);
    b->failed = b->failed || regex.failed;
    put(b, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    wk_json_put_str(b, wk_buf_str(&regex));
    put(b, "}, \"behavior\": \"Isolated\", \"invert\": false}, ");
    put_bytes(b, false);
    wk_buf_fini(&regex);
}

static void put_pretok(wk_buf *b, const wk_pretok *pre) {
    if (pre->shape == WK_PRETOK_GPT2 && !pre->digits_alone) {
        put_bytes(b, true);
        return;
    }
    put(b, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    if (pre->digits_alone) put(b, "{\"type\": \"Digits\", \"individual_digits\": true}, ");
    if (pre->shape == WK_PRETOK_GPT2)
        put_bytes(b, true);
    else
        put_cl100k(b, pre->max_digits);
    put(b, "]}");
}

static void put_controls(wk_buf *b, const wk_learned *l) {
    for (int32_t i = l->n_vocab - l->n_control; i < l->n_vocab; i++) {
        (void)wk_buf_addf(b, "%s\n    {\"id\": %d, \"content\": ", i > l->n_vocab - l->n_control ? "," : "", i);
        wk_json_put_str(b, l->token[i]);
        put(b, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": "
               "true}");
    }
}

void wk_learned_json(const wk_learned *l, const char *family, wk_buf *out) {
    const wk_pretok *pre = wk_pretok_find(wk_cstr(family));
    if (!pre) pre = wk_pretok_find(WK_STR("default"));
    put(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    put_controls(out, l);
    put(out, "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": ");
    put_pretok(out, pre);
    put(out, ",\n  \"post_processor\": null,\n  \"decoder\": ");
    put_bytes(out, true);
    put(out, ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
             "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
             "    \"byte_fallback\": false,\n    \"ignore_merges\": ");
    put(out, pre->whole_words ? "true" : "false");
    put(out, ",\n    \"vocab\": {");
    for (int32_t i = 0; i < l->n_vocab; i++) {
        put(out, i ? ",\n      " : "\n      ");
        wk_json_put_str(out, l->token[i]);
        (void)wk_buf_addf(out, ": %d", i); /* as above */
    }
    put(out, "\n    },\n    \"merges\": [");
    for (int32_t i = 0; i < l->n_merge; i++) {
        put(out, i ? ",\n      " : "\n      ");
        wk_json_put_str(out, l->merge[i]);
    }
    put(out, "\n    ]\n  }\n}\n");
}
