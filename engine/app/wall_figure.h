/* wall_figure.h: what the pictures of `wick wall` are drawn with. Each series has a colour, a dash and a marker of its
 * own, so that a grey print holds them apart. */
#ifndef WK_WALL_FIGURE_H
#define WK_WALL_FIGURE_H

#include "engine/app/svg.h"
#include "engine/app/wall_impl.h"

enum { WK_FIG_W = 760, WK_FIG_H = 400, WK_FIG_LEFT = 76, WK_FIG_RIGHT = 20, WK_FIG_TOP = 34, WK_FIG_BOTTOM = 52 };

/* title and alt: what a reader who does not see it is told. */
void wk_fig_begin(wk_buf *out, int height, const char *title, const char *alt);
void wk_fig_end(wk_buf *out);
/* Powers of ten from 10^low to 10^high. */
wk_svg_axis wk_fig_decades(int low, int high, double from, double to);
/* The least and the most power of ten that hold the values. */
void wk_fig_hold(double v, int *low, int *high);
void wk_fig_axes(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, const char *x_label, const char *y_label);
void wk_fig_text(wk_buf *out, double x, double y, const char *attributes, const char *fmt, ...) WK_PRINTF(5, 6);
/* A line through points, with or without markers; style: 0 .. 7. */
typedef struct wk_fig_line {
    int n, style;
    bool bare; /* no markers */
    const double *x, *y;
} wk_fig_line;
void wk_fig_line_put(wk_buf *out, const wk_svg_axis *x, const wk_svg_axis *y, const wk_fig_line *line);
/* Dash, marker and name, the i-th of a row from x on. */
void wk_fig_legend(wk_buf *out, double x, double y, int style, const char *name);
/* A number of the table; 0: none is there. */
double wk_fig_cell(const wk_wall *w, const wk_wall_table *t, int row, int col);
int wk_fig_rows(const wk_wall_table *t);
wk_str wk_fig_name(const wk_wall *w, const wk_wall_table *t, int row);

#endif
