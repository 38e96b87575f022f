/* Signals that arrive all the time change nothing, and no worker of vlt's takes one.
 *
 *   signals WEIGHTS */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "batches.h"

static pthread_t main_thread;
static volatile sig_atomic_t handled, handled_elsewhere;

static void handle(int number) {
  (void)number;
  ++handled;
  handled_elsewhere += !pthread_equal(pthread_self(), main_thread);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  main_thread = pthread_self();
  vlt_model* model = NULL;
  REQUIRE(vlt_model_load(argv[1], NULL, &model) == VLT_OK);
  const vlt_model_info info = info_of(model);
  vlt_session* session = make_session(model, 3);
  test_batch expected = make_batch(&info, 7);
  REQUIRE(run_batch(session, &expected) == VLT_OK);

  struct sigaction action = {0};
  action.sa_handler = handle; /* without SA_RESTART: system calls are interrupted */
  REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval often = {{0, 200}, {0, 200}};
  REQUIRE(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (int i = 0; i < 300 || handled < 100; ++i) {
    vlt_model* again = NULL;
    test_batch actual = make_batch(&info, 7);
    REQUIRE(vlt_model_load(argv[1], NULL, &again) == VLT_OK);
    vlt_session* other = make_session(again, 3);
    REQUIRE(run_batch(i % 2 ? session : other, &actual) == VLT_OK);
    REQUIRE(memcmp(actual.hidden, expected.hidden, expected.output.bytes) == 0);
    vlt_session_free(other);
    vlt_model_free(again);
    free_batch(&actual);
  }
  REQUIRE(handled_elsewhere == 0);
  free_batch(&expected);
  vlt_session_free(session);
  vlt_model_free(model);
  return 0;
}
