"""hostile_templates.py: chat templates that must end in a sentence, soon and in little memory. Used by make_hostile.py."""
from make_bad import ARR, BOOL, STR, U32

N = 100000
FOR = "{% for m in messages %}{{ m.content }}{% endfor %}"
WHOLE = ("{% macro show(m, n=1) %}{{ m['content'] | trim }}{% endmacro %}{% for m in messages if m.role != 'x' %}"
         "{% set a = [1, {'b': 2}] %}{% if m.role == 'user' and a[0] >= 1 %}{{ '<' ~ show(m) ~ \">\" }}{% else %}"
         "{{ raise_exception('no') if false else m.content }}{% endif %}{% endfor %}")


def cuts():
    """WHOLE cut inside every tag, at every third byte: something is always open."""
    out, inside, at = {}, False, 0
    for i in range(len(WHOLE)):
        if WHOLE[i:i + 2] in ("{%", "{{"):
            inside = True
        closed = WHOLE[i - 1:i + 1] in ("%}", "}}")
        if inside and i - at >= 3 and not closed:
            out["cut_%d" % i] = WHOLE[:i + 1]
            at = i
        if closed:
            inside = False
    return out


HOSTILE = {
    # syntax
    "unknown_tag": "a\n\n{% frobnicate %}",
    "unknown_filter": "{{ messages | frobnicate }}",
    "unknown_test": "{{ messages is frobnicate }}",
    "unknown_function": "{{ frobnicate(1) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'x' as y %}",
    "from": "{% from 'x' import y %}",
    "extends": "{% extends 'x' %}",
    "block": "{% block a %}{% endblock %}",
    "call": "{% call a() %}{% endcall %}",
    "end_without_begin": "{% endfor %}",
    "wrong_end": "{% if 1 %}{% endfor %}",
    "no_end": FOR[:-12] + "{% if true %}",
    "comment_open": "{# abc",
    "string_open": "{{ 'abc }}",
    "escape_bytes": "{% \x1b[31m %}",
    "two_operators": "{{ 1 + * 2 }}",
    "keyword_as_name": "{% set true = 1 %}{% set none %}{% endset %}",
    "number_of_letters": "{{ 12abc }}",
    "break_outside": "{% break %}",
    "not_utf8": b"{{ messages }}\xff\xfe",
    "too_long": "a" * (4 * 1024 * 1024 + 1),
    "string_in_bidi": "{% \u202eesle %}",
    # what escapes a sandbox elsewhere
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__['os'] }}",
    "init": "{{ namespace.__init__.__globals__ }}",
    "attr_filter": "{{ ''|attr('__class__') }}",
    "format_map": "{{ '{0.__class__}'.format(messages) }}",
    "self": "{{ self.__init__() }}",
    # depth
    "deep_brackets": "{{ " + "(" * N + "1" + ")" * N + " }}",
    "deep_lists": "{{ " + "[" * N + "]" * N + " }}",
    "deep_dicts": "{{ " + "{'a':" * N + "1" + "}" * N + " }}",
    "deep_not": "{{ " + "not " * N + "1 }}",
    "deep_minus": "{{ " + "-" * N + "1 }}",
    "deep_if": "{% if 1 %}" * N + "{% endif %}" * N,
    "deep_for": "{% for a in [1] %}" * N + "{% endfor %}" * N,
    "deep_set": "{% set a %}" * N + "{% endset %}" * N,
    "deep_macro": "{% macro a() %}" * N + "{% endmacro %}" * N,
    "deep_filter": "{% filter upper %}" * N + "{% endfilter %}" * N,
    "deep_power": "{{ " + "2**" * N + "1 }}",
    "deep_ternary": "{{ " + "1 if 1 else " * N + "1 }}",
    "deep_ternary_left": "{{ 1 " + "if 1 " * N + "}}",
    "deep_calls": "{{ " + "range(" * N + "1" + ")" * N + " }}",
    "deep_items": "{{ a" + "[a" * N + "]" * N + " }}",
    "deep_tests": "{{ 1 " + "is not " * N + "none }}",
    "deep_comments_open": "{#" * N,
    # work
    "loop_1e9": "{% for i in range(1000000000) %}{% endfor %}",
    "loop_1e18": "{% for i in range(10**18) %}{{ i }}{% endfor %}",
    "loops_nested": "{% for a in range(10**6) %}{% for b in range(10**6) %}{% for c in range(10**6) %}x{% endfor %}{% endfor %}{% endfor %}",
    "loop_select": "{% for i in range(10**9) if false %}{% endfor %}",
    "list_of_range": "{{ range(10**12) | list | length }}",
    "sum_of_range": "{{ range(10**12) | sum }}",
    "in_range_slowly": "{% for i in range(10**9) %}{% if i in range(10**9) %}{% endif %}{% endfor %}",
    "macro_itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "macros_in_turn": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "macro_doubling": "".join("{%% macro m%d() %%}{{ m%d() }}{{ m%d() }}{%% endmacro %%}" % (i, i + 1, i + 1) for i in range(60))
                      + "{% macro m60() %}x{% endmacro %}{{ m0() }}",
    "doubling": "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "doubling_tilde": "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling_list": "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling_capture": "{% set s = 'ab' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 64 + "{{ s }}",
    "repeat": "{{ 'abc' * 10**12 }}",
    "repeat_list": "{{ ([0] * 10**12) | length }}",
    "repeat_twice": "{{ ('a' * 10**6) * 10**6 }}",
    "replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**5) }}",
    "replace_empty": "{{ ('a' * 10**6).replace('', 'b' * 10**5) }}",
    "join": "{{ range(10**6) | join('x' * 10**6) }}",
    "indent": "{{ ('a\n' * 10**5) | indent(10**9) }}",
    "indent_first": "{{ 'a' | indent(10**9, true) }}",
    "tojson_indent": "{{ messages | tojson(indent=10**9) }}",
    "cycle_tojson": "{% set l = [] %}{{ l.append(l) }}{{ l | tojson }}",
    "cycle_print": "{% set l = [] %}{{ l.append(l) }}{{ l }}",
    "cycle_equal": "{% set a = [] %}{% set b = [] %}{{ a.append(b) }}{{ b.append(a) }}{{ a == b }}",
    "cycle_dict": "{% set d = {} %}{{ d.update({'a': d}) }}{{ d | tojson }}",
    "nested_tojson": "{% set ns = namespace(l=[]) %}{% for i in range(10**5) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "append_while": "{% set l = [1] %}{% for x in l %}{{ l.append(x) }}{% endfor %}",
    "split": "{% for i in range(10**6) %}{% set x = ('a ' * 10**5).split() %}{% endfor %}",
    "sort": "{% for i in range(10**6) %}{% set x = range(10**5) | sort %}{% endfor %}",
    "index_long_text": "{% set s = 'a' * 10**6 %}{% for i in range(10**6) %}{{ s[i] }}{% endfor %}",
    "output": "{% for i in range(10**6) %}{{ 'x' * 10**5 }}{% endfor %}",
    "trim_often": "{% set s = ' ' * 10**6 %}{% for i in range(10**6) %}{% set t = s | trim %}{% endfor %}",
    "find_often": "{% set s = 'a' * 10**6 %}{% for i in range(10**6) %}{% set t = ('a' * 1000 + 'b') in s %}{% endfor %}",
    # numbers
    "min_by_minus_1": "{{ (-9223372036854775807 - 1) // -1 }}",
    "negate_min": "{{ -(-9223372036854775807 - 1) }}",
    "abs_min": "{{ (-9223372036854775807 - 1) | abs }}",
    "add": "{{ 9223372036854775807 + 1 }}",
    "multiply": "{{ 10**10 * 10**10 }}",
    "power": "{{ 9**9**9 }}",
    "power_2_64": "{{ 2**64 }}",
    "literal": "{{ " + "9" * 400 + " }}",
    "divide_by_0": "{{ 1 // 0 }}",
    "modulo_0": "{{ 1 % 0 }}",
    "real_divide": "{{ 1.5 / 0 }}",
    "step_0": "{{ 'abc'[::0] }}",
    "range_step_0": "{{ range(1, 2, 0) }}",
    # meaning
    "raise": "{{ raise_exception('never \x1b[31m today') }}",
    "raise_long": "{{ raise_exception('x' * 10**6) }}",
    "undefined": "{{ messages.foo.bar }}",
    "not_callable": "{{ messages() }}",
    "not_iterable": "{% for a in 5 %}{% endfor %}",
    "unpack": "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "key_of_list": "{{ {[1]: 2} }}",
    "compare": "{{ messages < 5 }}",
    "add_text": "{{ 'a' + 1 }}",
    "number": "", "array": "", "bool": "",
    **cuts(),
}
KIND = {"number": (U32, 1), "array": (ARR, (STR, ["{{ 1 }}"])), "bool": (BOOL, 1)}
