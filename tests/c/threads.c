/* Threads beside each other get what one gets alone, and no session starts threads unasked.
 *
 *   threads WEIGHTS NUM_BATCHES
 *
 * Each of two threads runs all batches, mixed in length, on a session of its own, which shares the
 * model and the process's workers with the other; a third one cancels, reserves and looks at the
 * figures of a third session, which the first two must not feel. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "batches.h"
#include "processes.h"

enum { WORKERS = 3 };

static vlt_model* model;
static test_batch* batches; /* with the results of one thread */
static int num_batches;
static atomic_int done;

static void* run_all(void* argument) {
  const int backwards = argument != NULL;
  const vlt_model_info info = info_of(model);
  vlt_session* session = make_session(model, WORKERS);
  for (int i = 0; i < num_batches; ++i) {
    const int number = backwards ? num_batches - 1 - i : i;
    test_batch mine = make_batch(&info, (uint32_t)number);
    REQUIRE(run_batch(session, &mine) == VLT_OK);
    REQUIRE(memcmp(mine.hidden, batches[number].hidden, mine.output.bytes) == 0);
    free_batch(&mine);
  }
  vlt_session_free(session);
  return NULL;
}

static void* cancel_all(void* session) {
  while (!atomic_load(&done)) REQUIRE(vlt_session_cancel(session) == VLT_OK);
  return NULL;
}

/* Runs while another thread cancels: each ends, cancelled or not, and the session stays whole. */
static void* be_cancelled(void* argument) {
  (void)argument;
  const vlt_model_info info = info_of(model);
  vlt_session* session = make_session(model, WORKERS);
  pthread_t canceller;
  REQUIRE(pthread_create(&canceller, NULL, cancel_all, session) == 0);
  vlt_memory_stats stats = {0};
  stats.struct_size = sizeof(stats);
  for (uint32_t number = 0; !atomic_load(&done); ++number) {
    test_batch mine = make_batch(&info, number);
    const vlt_status status = run_batch(session, &mine);
    REQUIRE(status == VLT_OK || status == VLT_CANCELLED);
    REQUIRE(vlt_session_reserve(session, number % 1000, 5, info.max_length) == VLT_OK);
    REQUIRE(vlt_session_get_memory_stats(session, &stats) == VLT_OK);
    free_batch(&mine);
  }
  REQUIRE(pthread_join(canceller, NULL) == 0);
  vlt_session_free(session);
  return NULL;
}

static void* do_nothing(void* argument) { return argument; }

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  pthread_t threads[3];
  /* A sanitizer starts a thread of its own beside the first one. */
  REQUIRE(pthread_create(&threads[0], NULL, do_nothing, NULL) == 0);
  REQUIRE(pthread_join(threads[0], NULL) == 0);
  num_batches = atoi(argv[2]);
  batches = calloc((size_t)num_batches, sizeof(*batches));
  REQUIRE(batches);
  has_threads(1);
  const int threads_before = count_threads();

  REQUIRE(vlt_model_load(argv[1], NULL, &model) == VLT_OK);
  const vlt_model_info info = info_of(model);
  vlt_session* alone = make_session(model, 1);
  for (int i = 0; i < num_batches; ++i) {
    batches[i] = make_batch(&info, (uint32_t)i);
    REQUIRE(run_batch(alone, &batches[i]) == VLT_OK);
  }
  REQUIRE(count_threads() == threads_before); /* num_threads = 1 starts none */

  REQUIRE(pthread_create(&threads[0], NULL, run_all, NULL) == 0);
  REQUIRE(pthread_create(&threads[1], NULL, run_all, &threads) == 0);
  REQUIRE(pthread_create(&threads[2], NULL, be_cancelled, NULL) == 0);
  REQUIRE(pthread_join(threads[0], NULL) == 0);
  REQUIRE(pthread_join(threads[1], NULL) == 0);
  atomic_store(&done, 1);
  REQUIRE(pthread_join(threads[2], NULL) == 0);

  /* However many sessions there are, they share one team of workers. */
  vlt_session* sessions[4];
  for (int i = 0; i < 4; ++i) sessions[i] = make_session(model, WORKERS);
  REQUIRE(has_threads(threads_before + WORKERS - 1));
  for (int i = 0; i < 4; ++i) vlt_session_free(sessions[i]);

  vlt_session_free(alone);
  vlt_model_free(model);
  for (int i = 0; i < num_batches; ++i) free_batch(&batches[i]);
  free(batches);
  return 0;
}
