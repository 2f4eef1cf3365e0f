/* mem.h: host memory of the module: zeroed arrays; NULL where there is none. */
#ifndef WKC_MEM_H
#define WKC_MEM_H

#include <cstddef>
#include <new>

template <class T> static inline T *wkc_new(size_t n) { return new (std::nothrow) T[n ? n : 1](); }

#endif
