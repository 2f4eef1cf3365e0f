/* unit.h: cmocka with the headers that it wants before it. */
#ifndef WK_UNIT_H
#define WK_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#endif
