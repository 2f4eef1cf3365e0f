/* svg.h: plots as SVG: line charts one under the other, without fonts or scripts, for light and dark pages.
 *
 * The bytes depend on the values only, so that a golden file can hold them. Each series has a colour that colour-blind
 * people tell apart, and a marker of its own shape. Text is escaped. */
#ifndef WK_SVG_H
#define WK_SVG_H

#include <stdbool.h>

#include "engine/base/buf.h"
#include "engine/base/str.h"

enum { WK_SVG_SERIES = 8, WK_SVG_POINTS = 64, WK_SVG_TICKS = 12 };

typedef struct wk_svg_series {
    wk_str name;
    int n;                                      /* points, at most WK_SVG_POINTS */
    double x[WK_SVG_POINTS], y[WK_SVG_POINTS];  /* in the order of the line; not finite: no point */
    double low[WK_SVG_POINTS], high[WK_SVG_POINTS]; /* error bar; both 0: none */
} wk_svg_series;

typedef struct wk_svg_plot {
    const char *title, *x_label, *y_label;
    bool log_x, log_y; /* base 2; values <= 0 are left out */
    bool free_y;       /* a linear y axis begins at 0 unless this is set */
    int n_series;      /* at most WK_SVG_SERIES */
    const wk_svg_series *series;
    double mark;           /* a horizontal line at this y; 0: none */
    const char *mark_text; /* and what it means */
} wk_svg_plot;

/* title and description are foreign text. Failure stays in b, here and below. */
void wk_svg_begin(wk_buf *b, int n_plot, wk_str title, wk_str description);
void wk_svg_plot_put(wk_buf *b, int index, const wk_svg_plot *p);
/* caption: a line at the bottom. */
void wk_svg_end(wk_buf *b, int n_plot, wk_str caption);

/* ---- pieces, for pictures that are no line charts --------------------------------------------------- */

typedef struct wk_svg_axis {
    double low, high; /* of values; of their log2 if log */
    bool log;
    double from, to; /* pixels */
    int n;           /* ticks */
    double tick[WK_SVG_TICKS];
} wk_svg_axis;
/* Ticks, and the ends moved to them: 1, 2 or 5 times a power of ten; powers of two (low and high: log2 of values). */
void wk_svg_axis_linear(wk_svg_axis *a, bool from_zero);
void wk_svg_axis_log(wk_svg_axis *a);
/* The pixel of a value; v > 0 if log. */
double wk_svg_place(const wk_svg_axis *a, double v);
/* Text that is safe in XML. */
void wk_svg_escape(wk_buf *b, wk_str s);
/* attributes: as they stand in the element, with a blank before the first. */
void wk_svg_label(wk_buf *b, double x, double y, const char *attributes, wk_str text);
void wk_svg_line(wk_buf *b, const char *class, double x0, double y0, double x1, double y1);
/* shape: 0 .. WK_SVG_SERIES - 1, as the series have them. */
void wk_svg_marker(wk_buf *b, int shape, double x, double y);

#endif
