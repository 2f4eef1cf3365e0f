#!/bin/sh
# planted.sh CHECK_BACKEND MODULE: the comparison sees one wrong bit of any operation.
set -u
for op in $(sed -n 's/^WK_OP(\([a-z]*\),.*/\1/p' engine/graph/op.def); do
    WK_CHECK_SHRINK=29 WICK_FAKE_WRONG=$op "$1" "$2" >/dev/null
    if [ $? -ne 1 ]; then
        echo "a wrong bit of $op was not seen"
        exit 1
    fi
    echo "$op: seen"
done
