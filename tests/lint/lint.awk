# lint.awk: what lint.sh wants of every line of C; see there. Prints "file:line: sentence".
# Comments and the insides of literals are taken off before code is judged.

BEGIN {
    while ((getline row < LAYERS) > 0) {
        n = split(row, word, " ")
        if (word[1] == "lib") lib[word[2]] = word[3]
        if (word[1] != "layer") continue
        layer[word[2]] = 1
        for (i = 3; i <= n; i++) allowed[word[2], i - 2] = word[i]
        n_allowed[word[2]] = n - 2
    }
    B = "(^|[^A-Za-z0-9_.>])" # before a free-standing name: not a member
    C = "[ \t]*\\("           # a call
    memory = B "(malloc|calloc|realloc|free|posix_memalign|aligned_alloc|memalign|strn?dup|asprintf|alloca)" C
    output = B "(v?f?printf|v?dprintf|f?puts|f?putc|putchar|perror)" C
    leave = B "(exit|_exit|_Exit|quick_exit|abort)" C
    environ = B "(secure_)?(getenv|setenv|putenv)" C
    unsafe = B "(strcpy|strcat|strncpy|strncat|stpcpy|v?sprintf|strtok|atoi|atol|atoll|atof|gets|rand|srand)" C
    libm = B "(exp|exp2|expm1|log|log2|log10|log1p|pow|sin|cos|sincos|tan|sinh|cosh|tanh|asin|acos|atan|atan2|erf|erfc" \
           "|tgamma|lgamma|cbrt|hypot|fmod|remainder|ldexp|frexp|scalbn|round|lround|llround|lrint|llrint|nearbyint" \
           "|floor|ceil|trunc|fmin|fmax)[fl]?" C
    statement = "(^|[^A-Za-z0-9_])(if|for|while|do|switch|return|goto)([^A-Za-z0-9_]|$)"
    training = "(^|[^a-z])(train|training|trainer|grad|gradient|backward|adam|adamw)([^a-z]|$)"
}

function say(text) { print FILENAME ":" FNR ": " text }
function called(code, re,   name) { # the first name that re finds
    match(code, re)
    name = substr(code, RSTART, RLENGTH)
    gsub(/[^A-Za-z0-9_]/, "", name)
    return name
}
function under(dir) { return index(FILENAME, dir) == 1 }

function row_of(path,   p) {
    for (p = path; p != ""; ) {
        if (p in layer) return p
        if (!match(p, /\/[^\/]*$/)) return ""
        p = substr(p, 1, RSTART - 1)
    }
    return ""
}

function check_include(line,   name, i, a) {
    name = line
    sub(/^[ \t]*#[ \t]*include[ \t]*[<"]/, "", name)
    sub(/[>"].*/, "", name)
    if (line ~ /</) {
        if (name in lib && !under(lib[name])) say("<" name "> belongs to " lib[name])
        return
    }
    if (row == "" || index(name, row "/") == 1) return
    for (i = 1; i <= n_allowed[row]; i++) {
        a = allowed[row, i]
        if (name == a || index(name, a "/") == 1) return
    }
    say(row " may not include " name " (tests/lint/layers.txt)")
}

# The line without comments, literals emptied. Sets foreign if a literal or the code holds a byte over 127.
function strip(s,   out, t, lit) {
    out = ""
    while (s != "") {
        if (in_comment) {
            t = index(s, "*/")
            if (!t) return out
            s = substr(s, t + 2)
            in_comment = 0
        }
        if (!match(s, /\/\*|\/\/|"|'/)) {
            out = out s
            break
        }
        t = substr(s, RSTART, RLENGTH)
        out = out substr(s, 1, RSTART - 1)
        s = substr(s, RSTART + RLENGTH)
        if (t == "//") break
        if (t == "/*") {
            in_comment = 1
            continue
        }
        if (match(s, t == "'" ? "^([^'\\\\]|\\\\.)*'" : "^([^\"\\\\]|\\\\.)*\"")) {
            lit = substr(s, 1, RLENGTH)
            s = substr(s, RLENGTH + 1)
            if (lit ~ /[\200-\377]/) foreign = 1
        }
        out = out t t
    }
    if (out ~ /[\200-\377]/) foreign = 1
    return out
}

function check_calls(code) {
    if (code ~ unsafe) say(called(code, unsafe) ": banned call, unbounded or with hidden state")
    if (!product) return
    if (code ~ memory && FILENAME != "engine/base/arena.c") say(called(code, memory) ": memory comes from engine/base/arena.h only")
    if (!app) {
        if (code ~ output) say(called(code, output) ": the library never prints")
        if (code ~ leave) say(called(code, leave) ": the library never ends the process")
        if (!under("gpu/cuda/") && code ~ libm) say(called(code, libm) ": libm beyond fmaf, sqrtf, rintf, fma, sqrt, rint")
    }
    if (code ~ environ && FILENAME != "engine/app/env.c") say("the environment is read in engine/app/env.c only")
    if (code ~ /#[ \t]*pragma[ \t]+omp/ && FILENAME != "engine/base/pool.c")
        say("threads are made in engine/base/pool.c only")
}

function check_words(code) {
    if (under("models/") && FILENAME ~ /\.c$/ && FILENAME != "models/models.c" && code ~ statement)
        say("models hold values, no statements")
    if (product && !under("models/")) {
        if (code ~ /wk_arch_[a-z0-9_]+([^a-z0-9_(]|$)/) say("an architecture is named outside models/")
        if (code ~ /arch(->|\.)name/ && !under("engine/graph/")) say("arch->name is for models/ and engine/graph/")
    }
    gsub(/n_ctx_train/, "", code) # the length that the model was made for: its own key
    if (forward && tolower(code) ~ training) say("forward code does not know training words")
}

# What is said of a file once it has been read.
function finish() {
    if (last != "" && lines > 800) print "note: " last ": " lines " lines" > NOTES
    if (wide) print "note: " last ": " wide " lines of more than 120 bytes" > NOTES
    wide = 0
}

# Functions begin at a line that starts in column 1 and ends in "{" (arguments may run over lines).
function measure(code) {
    if (code ~ /^[A-Za-z_].*[,(]$/ && code !~ /;/) head = FNR
    else if (code ~ /^[A-Za-z_].*\)[ \t]*\{$/) open = FNR
    else if (code ~ /^ .*\)[ \t]*\{$/ && head) open = head
    if (code !~ /,$/ && code !~ /\($/) head = 0
    if (code ~ /^\}/ && open) {
        if (FNR - open + 1 > (under("simd/") ? 150 : 60))
            print "note: " FILENAME ":" open ": function of " FNR - open + 1 " lines" > NOTES
        open = 0
    }
}

FNR == 1 {
    finish()
    last = FILENAME
    row = row_of(FILENAME)
    product = under("engine/") || under("simd/") || under("models/") || under("gpu/")
    app = under("engine/app/")
    forward = under("engine/graph/") || under("engine/cpu/") || under("engine/run/") || FILENAME == "simd/kernels.h"
    table = FILENAME ~ /^engine\/text\/.*(\.def|_tbl\.h)$/ || FILENAME ~ /(^|_)(tbl|tables?)\.h$/
    in_comment = open = head = 0
}

{
    lines = FNR
    if (/\t/) say("tab")
    if (/[ \r]$/) say("trailing blank")
    if (length($0) > 120 && FILENAME !~ /\.def$/ && !table) wide++
    if (!in_comment && /^[ \t]*#[ \t]*include/) {
        check_include($0)
        next
    }
    foreign = 0
    code = strip($0)
    sub(/[ \t]+$/, "", code)
    if (foreign && !table) say("non-ASCII outside comments and text tables")
    if (code == "") next
    check_calls(code)
    check_words(code)
    measure(code)
}

END { finish() }
