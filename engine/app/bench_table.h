/* bench_table.h: Markdown tables whose columns stand in line on a terminal too. */
#ifndef WK_BENCH_TABLE_H
#define WK_BENCH_TABLE_H

#include <stdbool.h>

#include "engine/base/attr.h"
#include "engine/base/buf.h"

enum { WK_TABLE_CELL = 192, WK_TABLE_COLUMNS = 12 };

typedef struct wk_table {
    const char *align; /* a letter a column: l or r */
    int n_col, n_cell, cap;
    char (*cell)[WK_TABLE_CELL];
    bool failed;
} wk_table;

void wk_table_init(wk_table *t, const char *align);
/* The next cell, row by row; the first row is the head. What would break the table is replaced. */
void wk_table_cell(wk_table *t, const char *fmt, ...) WK_PRINTF(2, 3);
/* The last row is filled up with empty cells. Failure stays in b. */
void wk_table_put(wk_table *t, wk_buf *b);
void wk_table_fini(wk_table *t);

#endif
