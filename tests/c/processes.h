/* What Linux says of this process. */
#ifndef VLT_TESTS_PROCESSES_H_
#define VLT_TESTS_PROCESSES_H_

#include <dirent.h>
#include <time.h>

#include "require.h"

static inline int count_threads(void) {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  REQUIRE(tasks);
  for (struct dirent* task; (task = readdir(tasks)) != NULL;) count += task->d_name[0] != '.';
  closedir(tasks);
  return count;
}

/* The kernel may count a thread a moment longer than those who joined it. */
static inline int has_threads(int expected) {
  const struct timespec pause = {0, 1000000};
  for (int i = 0; i < 2000 && count_threads() != expected; ++i) nanosleep(&pause, NULL);
  return count_threads() == expected;
}

#endif /* VLT_TESTS_PROCESSES_H_ */
