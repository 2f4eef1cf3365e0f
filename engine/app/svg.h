/* svg.h: plots as SVG: line charts one under the other, without fonts or scripts, for light and dark pages.
 *
 * The bytes depend on the values only, so that a golden file can hold them. Each series has a colour that colour-blind
 * people tell apart, and a marker of its own shape. Text is escaped. */
#ifndef WK_SVG_H
#define WK_SVG_H

#include <stdbool.h>

#include "engine/base/buf.h"
#include "engine/base/str.h"

enum { WK_SVG_SERIES = 8, WK_SVG_POINTS = 64 };

typedef struct wk_svg_series {
    wk_str name;
    int n;                                      /* points, at most WK_SVG_POINTS */
    double x[WK_SVG_POINTS], y[WK_SVG_POINTS];  /* in the order of the line; not finite: no point */
    double low[WK_SVG_POINTS], high[WK_SVG_POINTS]; /* error bar; both 0: none */
} wk_svg_series;

typedef struct wk_svg_plot {
    const char *title, *x_label, *y_label;
    bool log_x, log_y; /* base 2; values <= 0 are left out. A linear y axis begins at 0 */
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

#endif
