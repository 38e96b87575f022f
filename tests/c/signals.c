/* Signals that arrive all the time change nothing, and no worker of vlt's takes one.
 *
 *   signals WEIGHTS */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

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

  /* One that the program holds back stays pending, whoever else there is to take it. */
  sigset_t held, pending;
  sigemptyset(&held);
  sigaddset(&held, SIGUSR1);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &held, NULL) == 0);
  struct sigaction action = {0};
  action.sa_handler = handle;
  REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
  REQUIRE(kill(getpid(), SIGUSR1) == 0);
  const struct timespec moment = {0, 20000000};
  nanosleep(&moment, NULL);
  REQUIRE(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) == 1 && handled == 0);
  REQUIRE(pthread_sigmask(SIG_UNBLOCK, &held, NULL) == 0);
  REQUIRE(handled == 1 && handled_elsewhere == 0);

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
