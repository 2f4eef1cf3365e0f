#!/usr/bin/env python3
"""Makes tests/golden/jinja/*.jsonl: templates of our own, with what Python's jinja2 makes of them.

usage: make_jinja.py            (needs jinja2 3.1; writes beside itself)

constructs.jsonl  one or more templates per construct that chat templates use (SERVER 13)
random.jsonl      random expressions, each rendered by both sides
A line: {"name", "template", "context", "ok", "text"}; ok false: both sides must refuse.
The settings are those that the transformers library gives to chat templates; the clock stands still.
"""
import datetime
import json
import os
import random

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja")


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


# Without the optimizer, and with values set before they are printed: jinja2 folds none[1:] to nothing where it
# is printed, and raises where it is computed.
ENV = SandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=["jinja2.ext.loopcontrols", Generation]
)
ENV.filters["tojson"] = tojson
ENV.filters["from_json"] = json.loads
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = NOW.strftime

CONTEXT = {
    "s": "Hello, World",
    "u": "\u4f60\u597d caf\u00e9 \U0001f600",
    "e": "",
    "sp": "  a b \n",
    "n": 7,
    "neg": -3,
    "z": 0,
    "f": 2.5,
    "big": 9007199254740993,
    "t": True,
    "nope": False,
    "nil": None,
    "l": [3, 1, 2],
    "words": ["beta", "Alpha", "gamma"],
    "nested": [1, [2, "x", None, True, 1.0], {"k": "v"}],
    "d": {"b": 1, "a": {"x": "y"}, "C": [1, 2]},
    "empty": [],
    "ed": {},
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U", "type": "text", "n": 2},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"q": 1}}}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
    ],
    "json": '{"a": [1, 2.50, null, true], "\\u00e9": "\\n"}',
    "quotes": "it's \"so\" \\ \t\u0007",
    "html": "<a href='x'>&\"</a>",
    "lines": "one\ntwo\n\n  four\n",
}

# Statements, white space, scopes: name -> template
STATEMENTS = {
    "if": "{% if n > 5 %}big{% elif n > 2 %}mid{% else %}small{% endif %}",
    "elif": "{% for x in [1, 3, 9] %}{% if x > 5 %}a{% elif x > 2 %}b{% elif x > 1 %}c{% else %}d{% endif %}{% endfor %}",
    "if empty values": "{% for x in [0, 1, '', 'a', [], [0], {}, {'a': 1}, none, true, 0.0, 0.1] %}{% if x %}T{% else %}F{% endif %}{% endfor %}",
    "for": "{% for x in l %}{{ x }};{% endfor %}",
    "for over dict, text, range": "{% for k in d %}{{ k }} {% endfor %}{% for c in u %}[{{ c }}]{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}",
    "for over nothing": "{% for x in missing %}{{ x }}{% endfor %}{% for x in empty %}{{ x }}{% endfor %}.",
    "for tuple target": "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [[1, 2], (3, 4)] %}{{ a + b }} {% endfor %}",
    "for inline if": "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
    "for inline if tuple": "{% for k, v in d.items() if k != 'a' %}{{ k }}{{ loop.last }} {% endfor %}",
    "loop": "{% for x in words %}{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.depth }}\n{% endfor %}",
    "loop neighbours": "{% for x in l %}{{ loop.previtem }}<{{ x }}<{{ loop.nextitem }}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }} {% endfor %}",
    "loop nested": "{% for x in l %}{% for y in l %}{{ loop.index }}{% if loop.last %}!{% endif %}{% endfor %}{{ loop.index }} {% endfor %}",
    "loop kept": "{% for x in l %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "break": "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}.",
    "continue": "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}.",
    "break in capture": "{% for x in l %}{% set q %}{{ x }}{% if loop.index == 2 %}{% break %}{% endif %}{% endset %}{{ q }},{% endfor %}end",
    "continue in filter": "{% for x in l %}{% filter upper %}a{% if x == 1 %}{% continue %}{% endif %}b{{ x }}{% endfilter %}{% endfor %}end",
    "set": "{% set a = 1 %}{% set b, c = 2, 3 %}{{ a }}{{ b }}{{ c }}{% set a = a + b %}{{ a }}",
    "set scope": "{% set a = 1 %}{% for x in l %}{% set a = a + x %}{{ a }} {% endfor %}{{ a }}",
    "set in if": "{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}",
    "set in for is lost": "{% for x in l %}{% set inner = x %}{% endfor %}{{ inner }}.",
    "set shadows variable": "{% set s = s ~ '!' %}{{ s }}",
    "set attribute": "{% set ns = namespace(a=1, b='x') %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.none }}.",
    "set block": "{% set a %}x{{ n }}y{% endset %}{{ a }}{{ a | length }}",
    "set block filter": "{% set a | upper | trim %}  x{{ n }}y {% endset %}[{{ a }}]",
    "set block scope": "{% set q = 1 %}{% set a %}{% set q = 2 %}{{ q }}{% endset %}{{ a }}{{ q }}",
    "filter block": "{% filter trim %}  a {{ s }}  {% endfilter %}|",
    "filter block chain": "{% filter upper | replace('A', 'b') %}a {{ s }}{% endfilter %}",
    "generation": "{% generation %}a{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}.",
    "macro": "{% macro m(a, b) %}<{{ a }}{{ b }}>{% endmacro %}{{ m(1, 2) }}{{ m(1) }}{{ m(b=3) }}",
    "macro defaults": "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, c=5) }}{{ m(a='x', b='y') }}",
    "macro sees outer": "{% set g = 1 %}{% macro m() %}{{ g }}{{ n }}{% endmacro %}{% set g = 2 %}{{ m() }}",
    "macro calls macro": "{% macro a(x) %}[{{ x }}]{% endmacro %}{% macro b(x) %}{{ a(x) }}{{ a(x + 1) }}{% endmacro %}{{ b(1) ~ b(5) }}",
    "macro recursive": "{% macro walk(v, depth=0) %}{% if v is mapping %}{% for k, w in v | dictsort %}{{ '  ' * depth }}{{ k }}:\n{{ walk(w, depth + 1) }}{% endfor %}{% else %}{{ '  ' * depth }}{{ v }}\n{% endif %}{% endmacro %}{{ walk(d) }}",
    "macro result is text": "{% macro m() %} a {% endmacro %}{{ m() | trim | length }}{{ m() is string }}",
    "macro local set": "{% set a = 1 %}{% macro m() %}{% set a = 2 %}{{ a }}{% endmacro %}{{ m() }}{{ a }}",
    "trim signs": "a  \n  {%- if t -%}  \n b \n {%- endif -%} \n c {{- n -}} \n d",
    "trim blocks": "{% if t %}\nline\n{% endif %}\nafter\n",
    "lstrip blocks": "  {% if t %}\n    x\n  {% endif %}\n  {{ n }}\n\t{# c #}\nend",
    "lstrip keeps text": "a {% if t %} b {% endif %} c\n {{ n }} {% if t %}x{% endif %}",
    "lstrip off": "  {%+ if t %}\n  x\n  {%+ endif %}\n",
    "trim off": "{% if t +%}\nx\n{% endif +%}\ny",
    "comments": "a{# one #}b\n  {# two\n lines #}\nc {#- three -#} d{# {{ not }} #}",
    "comment only": "{# all #}",
    "newlines": "a\r\nb\rc\n{{ 'x\r\ny' }}\n",
    "final newline": "a\n\n",
    "no final newline": "a",
    "empty": "",
    "unicode space": "a\u00a0{{- n -}}\u2003b",
    "raw braces": "{ { } } %} }} #}",
    "nested braces": "{{ {'a': {'b': 1}} }}{{ {'a': {}}['a'] }}",
    "print tuple": "{{ 1, 2 }}{{ (1,) }}{{ () }}",
    "print many": "{{ none }}{{ true }}{{ false }}{{ 1.0 }}{{ missing }}{{ [] }}",
    "if in if in for": "{% for m in messages %}{% if m.role == 'user' %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m['content'] %}{% if p.type == 'text' %}{{ p.text }}{% else %}<img>{% endif %}{% endfor %}{% endif %}{% endif %}{% endfor %}",
    "functions": "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%B %d, %Y') }} {{ strftime_now('%H:%M:%S %A %a %j %y %I %p %%') }}",
    "raise": "a{{ raise_exception('no') }}b",
    "raise in branch": "{% if nope %}{{ raise_exception('no') }}{% endif %}ok",
    "pop and append": "{% set q = [1, 2] %}{% set _ = q.append(3) %}{{ q }}{% set x = q.pop(0) %}{{ x }}{{ q }}{{ q.pop() }}{{ q }}",
    "append while iterating": "{% set q = [1] %}{% for x in q %}{% if x < 4 %}{% set _ = q.append(x + 1) %}{% endif %}{{ x }}{% endfor %}",
    "dict changes": "{% set q = {'a': 1, 'b': 2} %}{% set _ = q.update({'c': 3}) %}{{ q }}{{ q.pop('a') }}{{ q }}{% set _ = q.update(d=4) %}{{ q }}",
    "chat": "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{% if message.content is string %}{{ message.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}x{% endif %}",
    "safe": "{{ 'a<'|safe + html + '>'|safe }}{{ ('a<'|safe) ~ html }}{{ html|safe }}{{ (html|safe).split('x')[0] + '<' }}",
    "many names": "".join("{%% set v%d = %d %%}" % (i, i) for i in range(40)) + "".join("{{ v%d }}" % i for i in range(40)),
    "long text": "x" * 300 + "{{ 'y' * 300 }}",
    "big dict": "{% set q = {" + ", ".join("'k%d': %d" % (i, i) for i in range(40)) + "} %}{{ q.k7 }}{{ q['k39'] }}{{ q | length }}{{ 'k3' in q }}{{ 'k40' in q }}{% for k in q %}{{ k }}{% endfor %}",
    # refused
    "unknown tag": "{% frobnicate %}",
    "unknown filter": "{{ 1 | frobnicate }}",
    "unknown test": "{{ 1 is frobnicate }}",
    "unknown function": "{{ frobnicate(1) }}",
    "unclosed if": "{% if t %}x",
    "unclosed for": "{% for x in l %}x",
    "unclosed tag": "{% if t ",
    "unclosed print": "{{ n ",
    "unclosed comment": "a {# b",
    "unclosed text": "{{ 'abc }}",
    "stray endif": "{% endif %}",
    "stray else": "{% else %}",
    "wrong end": "{% if t %}{% endfor %}",
    "bracket": "{{ (1, 2 }}",
    "bracket 2": "{{ 1) }}",
    "empty print": "{{ }}",
    "operator": "{{ 1 + }}",
    "operator 2": "{{ * 1 }}",
    "two values": "{{ 1 2 }}",
    "assign": "{% set 1 = 2 %}",
    "assign attribute of dict": "{% set d.x = 2 %}",
    "break outside": "{% break %}",
    "include": "{% include 'x' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "character": "{{ 1 $ 2 }}",
    "chained tests": "{{ 1 is string is string }}",
    "attribute of undefined": "{{ missing.a }}",
    "item of undefined": "{{ missing['a'] }}",
    "item of absent": "{{ d.q.r }}",
    "call undefined": "{{ missing() }}",
    "call text": "{{ s() }}",
    "add undefined": "{{ missing + 'a' }}",
    "order of undefined": "{{ missing < 1 }}",
    "add kinds": "{{ 'a' + 1 }}",
    "add kinds 2": "{{ l + 'a' }}",
    "order kinds": "{{ 'a' < 1 }}",
    "in number": "{{ 1 in 2 }}",
    "number in text": "{{ 1 in 'a1' }}",
    "in none": "{{ 'a' in none }}",
    "iterate number": "{% for x in 5 %}{% endfor %}",
    "iterate none": "{% for x in none %}{% endfor %}",
    "unpack": "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "length of number": "{{ 5 | length }}",
    "zero": "{{ 1 / 0 }}",
    "zero 2": "{{ 1 % 0 }}",
    "zero 3": "{{ 1 // 0 }}",
    "items of text": "{{ 'a' | items | list }}",
    "split empty": "{{ 'a'.split('') }}",
    "pop empty": "{{ [].pop() }}",
    "pop absent": "{{ {}.pop('a') }}",
    "macro too many": "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "macro keyword": "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "macro twice": "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}",
    "filter argument": "{{ s | upper(1, 2, 3) }}",
    "slice bounds": "{{ l['a':] }}",
    "slice of none": "{{ nil[1:] }}",
    "slice step": "{{ l[::0] }}",
    "tojson of undefined": "{{ missing | tojson }}",
    "tojson of generator": "{{ l | map('string') | tojson }}",
    "from_json": "{{ '{' | from_json }}",
    "escape to class": "{{ ''.__class__.__mro__ }}",
    "recursion without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "sort kinds": "{{ [1, 'a'] | sort }}",
}

EXPRESSIONS = """
'a"b' ~ "c'd" ~ 'e\\n\\t\\\\\\x41\\u00e9\\q'
'a' 'b' "c"
1 ~ 1.5 ~ true ~ none ~ 'x' ~ [1, 'a']
1_000 + 0x1f + 0b11 + 0o17
1.5 ~ ' ' ~ 1e3 ~ ' ' ~ 1.0e-7 ~ ' ' ~ 1e16 ~ ' ' ~ 123456789012345680.0 ~ ' ' ~ 0.1 ~ ' ' ~ 1e22
0.0001 ~ ' ' ~ 0.00001 ~ ' ' ~ 5e-324 ~ ' ' ~ 1.7976931348623157e308 ~ ' ' ~ 100.0 ~ ' ' ~ 1/3
[1, 2.0, 'a', none, true, {'k': 'v'}, (1,), (1, 2), []]
{'a': 1, "b": [1, 2], 3: 'c', none: true, 1.5: 0}
(1, 'a', (2, 3))
n == 7 and n != 8 and n >= 7 and n <= 7 and not n < 7 and not n > 7
1 == 1.0, 1 == true, 'a' == 'a', [1] == [1], (1,) == [1], {'a': 1} == {'a': 1.0}, none == false
1 < 2 < 3, 1 < 3 < 2, 3 > 2 > 1 > 0, 1 == 1 == 1
'a' < 'b', 'a' < 'B', [1, 2] < [1, 3], [1] < [1, 0], (1, 2) < (2,)
n in l, 1 in l, 'ell' in s, 'b' in d, 1 not in l, '' in e, 'x' not in s, (1, 2) in [(1, 2)]
'a' in missing, missing == missing, missing == none, missing in [none]
n and z or s, z or e or 'last', n and s, not z, not not n, nope or nil
n if t else z, n if nope else z, n if nope, (n if nope) is undefined, 1 if nope else 2 if nope else 3
n + 1 - 2 * 3, n / 2, n // 2, n % 4, 2 ** 10, -n, +n, - -n, neg % 4, neg // 2, neg % -2, 7.5 // 2, 7.5 % 2, -7.5 % 2
2 ** -1, 2.0 ** 3, 10 / 4, 9 / 3, 1 - 0.9, 0.1 + 0.2, 1e300 * 1e10, true + true
-2 ** 2, 2 * -3, 2 - -3, -n | abs, 'a' ~ 1 ~ 2, (1 + 2) ~ 3, 1 ~ 2 * 3
big + 1, 9223372036854775807, -9223372036854775807 - 1
'ab' * 3, 2 * 'ab', [1] * 3, 'a' * 0, 'a' * -1
'a' + 'b', [1] + [2], (1,) + (2,)
s[0], s[-1], s[100], u[0], u[1], u[-1], l[0], l[-1], l[5], l['x'], d['b'], d['zz'], (1, 2)[1]
s[1:], s[:-1], s[2:4], s[-3:], s[:100], s[::-1], s[::2], s[5:1], s[5:1:-2], u[::-1], u[1:3], u[:-1], u[-1:], u[3:100]
l[1:], l[:-1], l[::-1], l[:], l[-2:], (1, 2, 3)[1:], range(10)[2:8:2] | list, l[none:none], l[n:], l[true:]
d.b, d['a'].x, d.a['x'], d.zz, d.C[0], d.C.0, s.zz, n.zz, nil.zz, l.zz
d.get('b'), d.get('zz'), d.get('zz', 5), d.get('zz', default=5) if nope else 1, d.get(missing)
d.items(), d.keys(), d.values(), d.items() | list, d | items | list
s.upper(), s.lower(), s.title(), s.capitalize(), u.upper(), 'straße'.upper(), 'ÀÉ'.lower(), "it's a".title()
s.startswith('Hell'), s.endswith('ld'), s.startswith(('x', 'H')), s.endswith(''), e.startswith('a')
s.split(','), s.split(', '), s.split('o', 1), sp.split(), sp.split(none), 'a b  c'.split(' '), 'a b c d'.split(none, 2), ''.split(), ''.split(','), 'abab'.split('ab')
'a,b,c'.rsplit(',', 1), 'a,b,c'.rsplit(','), s.split('zz'), ' a  b '.split(maxsplit=1), 'aXbX'.split(sep='X')
sp.strip(), sp.lstrip(), sp.rstrip(), 'xxaxx'.strip('x'), 'xyayx'.strip('xy'), '\\u00a0a\\u2003'.strip(), 'éaé'.strip('é'), 'abc'.strip('')
s.replace('l', 'L'), s.replace('l', ''), s.replace('o', '0', 1), 'aaa'.replace('a', 'aa'), 'abc'.replace('', '-'), 'aaa'.replace('aa', 'b')
s.find('o'), s.find('zz'), s.rfind('o'), u.find('c'), s.count('l'), s.index('W'), 'aaa'.count('aa')
', '.join(words), ''.join([]), '-'.join('abc')
'{} {}'.format(1, 'a'), '{0}{1}{0}'.format('x', n), '{a}{{}}'.format(a=5)
lines.splitlines(), 'a\\r\\nb\\rc'.splitlines(), 'a\\n'.splitlines(true)
'12'.isdigit(), 'a1'.isalnum(), ''.isdigit(), 'ab'.isalpha(), ' '.isspace(), 'abc'.removeprefix('a'), 'abc'.removesuffix('c'), 'abc'.removeprefix('x')
n is defined, missing is defined, missing is undefined, nil is defined, d.zz is defined, d.b is defined
nil is none, n is none, missing is none, s is string, n is string, n is number, f is number, t is number, s is number
t is boolean, n is boolean, t is true, nope is false, n is true, z is false, n is integer, f is float, t is integer
d is mapping, l is mapping, s is mapping, l is iterable, s is iterable, n is iterable, d is iterable, missing is iterable, nil is iterable
l is sequence, s is sequence, d is sequence, n is sequence, (1,) is sequence, range(3) is sequence, d.items() is sequence, missing is sequence
n is odd, n is even, n is divisibleby 7, n is equalto 7, n is eq(7), n is ne 7, n is in l, 3 is in [3], n is gt 3, n is lt 3
n is not string, n is not none, not n is none, n is string or s is string, missing is not defined
namespace is callable, s is callable, range is defined
s | length, u | length, l | length, d | length, missing | length, e | length, range(5) | length, d.items() | length
sp | trim, 'xax' | trim('x'), n | trim, missing | trim, nil | trim
n | string, f | string, l | string, missing | string ~ '.', t | string
missing | default('x'), nil | default('x'), nil | default('x', true), e | default('x', true), missing | default, missing | default(none), z | default(5, boolean=true), missing | d('q')
l | join, l | join(', '), words | join('|'), missing | join(','), 'abc' | join('-'), messages | join(',', attribute='role'), [1, none, true] | join(' ')
l | list, s | list, d | list, missing | list, range(3) | list, words | map('upper') | list
messages | selectattr('role', 'equalto', 'user') | list | length, messages | selectattr('type') | list | length, messages | selectattr('type', 'defined') | map(attribute='content') | list
messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list, l | select('gt', 1) | list, l | reject('equalto', 1) | list, l | select('odd') | list, [0, 1, none] | select | list, [0, 1] | reject | list
messages | map(attribute='role') | list, messages | map(attribute='n', default=0) | list, words | map('upper') | join, messages | map(attribute='tool_calls.0.function.name', default='-') | list
none | selectattr('a') | list, none | map('upper') | list, e | select | list
l | map('string') is sequence, (empty | map('string')) and 'yes', l | selectattr('a') is defined
d | dictsort, d | dictsort(true), d | dictsort(reverse=true), {'a': 2, 'b': 1} | dictsort(false, 'value')
l | sort, words | sort, words | sort(case_sensitive=true), l | sort(reverse=true), messages | sort(attribute='role') | map(attribute='role') | list
l | min, l | max, words | min, empty | max is undefined, [1, 2.5] | max
[1, 2, 1, 'a', 'A', 1.0] | unique | list, messages | unique(attribute='role') | map(attribute='role') | list
l | first, l | last, empty | first is undefined, s | first, l | reverse | list, s | reverse, l | sum, messages | map('length') | sum
'3' | int, '3.9' | int, 'x' | int, 'x' | int(5), 3.9 | int, -3.9 | int, true | int, ' 12 ' | int, nil | int, '1_0' | int, l | int
'3' | float, 'x' | float, 2 | float, '1e3' | float, nil | float(1.5), -2 | abs, -2.5 | abs
s | upper, s | lower, 'a b-c' | title, s | capitalize, n | upper, missing | lower
s | replace('l', 'L'), s | replace('l', 'L', 1), n | replace('7', 'x'), html | escape | length, (html | e).split(';') | length
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(first=true), lines | indent(1, blank=true), lines | indent('> '), 'a' | indent, '' | indent(2, true)
d | tojson, nested | tojson, s | tojson, u | tojson, quotes | tojson, f | tojson, nil | tojson, t | tojson, (1, 2) | tojson, {} | tojson, [] | tojson
u | tojson(ensure_ascii=true), quotes | tojson(ensure_ascii=true), html | tojson, '\\x7f' | tojson, [1.0, 1e20, 1e-7, -0.0] | tojson
d | tojson(indent=2), nested | tojson(indent=4), [] | tojson(indent=2), {'a': []} | tojson(indent=0), d | tojson(indent=2, ensure_ascii=false)
d | tojson(separators=(',', ':')), d | tojson(sort_keys=true), {1: 2, none: 3, true: 4, 1.5: 5} | tojson, d | tojson(separators=(', ', '='), indent=1)
json | from_json, (json | from_json).a[1], '[1, "x"]' | from_json | tojson, '5' | from_json + 1, 'null' | from_json is none
l, nested, d, quotes, [quotes], ['a"b', "a'b", 'a"\\'b', u, '\\x00\\x7f\\u200b\\ud7ff\\u00ad', 'é'], [missing]
range(3), range(1, 7, 2), range(5, 0, -2) | list, range(0) | list, range(3) == range(0, 3), 2 in range(3), range(3)[1]
namespace(a=1).a, namespace({'x': 2}).x, dict(a=1, b='c'), dict({'q': 1}, z=2)
{'a': 1}.items() | list, [1, 2].index(2), [1, 1].count(1), (1, 2).index(2), {'a': 1}.copy(), {'items': 5}.items() | list, {'items': 5}['items']
messages[0].role, messages[-1]['content'][0].text, messages[2].tool_calls[0].function.arguments.q, messages[2].content is none, messages[1:][0].role
(messages | first).role, messages | length - 1, messages[0]['role'] == 'system' and messages[0].content or 'no'
not t == nope, not (t and nope), t and not nope, n - 1 if n > 1 else 0, (n, s)[0], [n, s][-1], 'yes' if 'a' in d and d.a else 'no'
{'a': n, 'b': [s]}, {'a': {'b': {'c': 1}}}.a.b.c, [[1, 2], [3]][0][1], ((((1))))
1 if missing else 2, missing or 'x', missing and 'x' or 'y', not missing, missing ~ 'x', [missing, 1] | length
"%s" if nope else 'plain', 'a' if 'x' is string else 'b', 'in' in 'inn', true and 'x', none or 0
u ~ u[0] ~ '\\U0001f600', '\\x41\\101\\0'| length, 'a\\
b', 'tab\\there', "\\a\\b\\f\\v" | length
1.0 == 1, 1.5 > 1, 0.5 in [0.5], 3 * 1.5, 7 // 2.0, 1 // 1, 5 % 3.0
""".strip("\n")


def atoms(rng, depth):
    simple = ["s", "u", "e", "sp", "n", "neg", "z", "f", "t", "nope", "nil", "l", "words", "d", "empty", "missing",
              "'a'", "'b c'", "''", "0", "1", "-1", "2", "3.5", "none", "true", "'l'", "'role'", "messages", "lines"]
    if depth <= 0:
        return rng.choice(simple)
    return None


def expression(rng, depth):
    a = atoms(rng, depth)
    if a:
        return a
    kind = rng.randrange(12)
    x = expression(rng, depth - 1 - rng.randrange(2))
    if kind == 0:
        return "(%s %s %s)" % (x, rng.choice("+ - * / // ~ == != < <= > >= and or in".split()), expression(rng, depth - 1))
    if kind == 1:
        return "(%s %s %s)" % (x, rng.choice(["~", "==", "and", "or", "!=", "not in", "in", "+"]), expression(rng, depth - 1))
    if kind == 2:
        return "(%s | %s)" % (x, rng.choice(["length", "trim", "string", "list", "join", "join(', ')", "upper", "lower", "first", "last",
                                             "default('q')", "default('q', true)", "tojson", "tojson(indent=2)", "int", "sort", "unique | list",
                                             "map('string') | list", "reverse | list", "capitalize", "title", "items | list", "dictsort",
                                             "replace('a', 'X')", "indent", "abs", "min", "max", "sum", "select | list", "float"]))
    if kind == 3:
        return "(%s is %s%s)" % (x, rng.choice(["", "not "]), rng.choice(["defined", "none", "string", "mapping", "iterable", "sequence", "number",
                                                                           "boolean", "true", "false", "undefined", "integer", "float"]))
    if kind == 4:
        return "%s[%s:%s]" % (x, rng.choice(["", "1", "-1", "0", "n"]), rng.choice(["", "2", "-1", "5", "-2:", ":-1", ":2"]))
    if kind == 5:
        return "%s[%s]" % (x, expression(rng, depth - 2))
    if kind == 6:
        return "(%s if %s else %s)" % (x, expression(rng, depth - 1), expression(rng, depth - 2))
    if kind == 7:
        return "[%s, %s]" % (x, expression(rng, depth - 1))
    if kind == 8:
        return "{'k': %s, 'j': %s}" % (x, expression(rng, depth - 2))
    if kind == 9:
        return "(not %s)" % x
    if kind == 10:
        return "%s.%s" % (x, rng.choice(["split()", "split('l')", "strip()", "upper()", "startswith('a')", "replace('l', 'L')", "get('a')", "items() | list",
                                         "lstrip()", "rstrip('d')", "endswith('d')", "title()", "b", "a.x", "role"]))
    return "(%s ~ %s)" % (x, expression(rng, depth - 1))


def case(name, template, context):
    row = {"name": name, "template": template, "context": context}
    try:
        text = ENV.from_string(template).render(**json.loads(json.dumps(context)))
        text.encode()
        row.update(ok=True, text=text)
    except Exception:
        row.update(ok=False)
    return row


def write(name, rows):
    with open(os.path.join(HERE, name), "w", encoding="utf8") as out:
        for row in rows:
            row.pop("context")
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def constructs():
    for name, template in STATEMENTS.items():
        yield case(name, template, CONTEXT)
    for line in EXPRESSIONS.replace("\\\n", "\\\x00").split("\n"):
        line = line.replace("\\\x00", "\\\n")
        yield case(line[:40], "{% set r = " + line + " %}{{ r }}", CONTEXT)


def known_difference(text):
    """What we leave out on purpose: printing generators and functions."""
    return " object at 0x" in text or "<built-in" in text or "<function" in text


def random_rows(n, seed):
    rng = random.Random(seed)
    seen = set()
    while len(seen) < n:
        x = expression(rng, 3)
        row = case(x, "{% set r = " + x + " %}{{ r }}", CONTEXT)
        if x in seen or len(x) < 12 or len(x) > 150 or (row["ok"] and (known_difference(row["text"]) or len(row["text"]) > 300)):
            continue
        if not row["ok"] and rng.randrange(3):
            continue
        seen.add(x)
        yield row


def main():
    os.makedirs(HERE, exist_ok=True)
    write("constructs.jsonl", constructs())
    write("random.jsonl", random_rows(400, 1))
    with open(os.path.join(HERE, "context.json"), "w", encoding="utf8") as out:
        json.dump(CONTEXT, out, ensure_ascii=False, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
