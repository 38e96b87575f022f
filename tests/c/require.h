/* What the test programs share: a rule that does not hold is printed with its line, and ends the
 * program with exit code 1. */
#ifndef VLT_TESTS_REQUIRE_H_
#define VLT_TESTS_REQUIRE_H_

#include <stdio.h>
#include <stdlib.h>

#include "vlt.h"

#ifndef LAST_ERROR /* a program that is not linked with the library has none */
#define LAST_ERROR vlt_last_error()
#endif

#define REQUIRE(condition)                                                                    \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
              LAST_ERROR);                                                                    \
      exit(1);                                                                                \
    }                                                                                         \
  } while (0)

#endif /* VLT_TESTS_REQUIRE_H_ */
