/* warm.h: touches the pages of a mapping in the background, so that opening does not wait for them. */
#ifndef WK_WARM_H
#define WK_WARM_H

#include <stddef.h>

typedef struct wk_warm wk_warm;

/* Starts to populate [p, p+n), from its front, by a thread of low priority; contents are not changed, and others may
 * use them meanwhile. NULL: nothing to do, or no memory or thread; pages are then had at their first use. */
wk_warm *wk_warm_start(const void *p, size_t n);
/* Stops it, done or not; before the range is unmapped. Waits for 2 MB at most. NULL is fine. */
void wk_warm_stop(wk_warm *w);

#endif
