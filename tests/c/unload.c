/* The library can be loaded, used and unloaded again and again, and leaves no thread behind.
 *
 *   unload LIBRARY WEIGHTS */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not linked with the library: every function of it is looked up. */
#define LAST_ERROR "not looked up"
#include "processes.h"
#include "vlt.h"

static void find(void* library, const char* name, void* function) {
  void* address = dlsym(library, name);
  REQUIRE(address);
  memcpy(function, &address, sizeof(address)); /* C has no cast from data to function pointers */
}

static float use(const char* path, const char* weights) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) fprintf(stderr, "%s\n", dlerror());
  REQUIRE(library);
  vlt_status (*load)(const char*, const vlt_model_options*, vlt_model**);
  vlt_status (*create)(vlt_model*, const vlt_session_options*, vlt_session**);
  vlt_status (*run)(vlt_session*, const vlt_packed_batch*, const vlt_output*, int32_t);
  void (*free_session)(vlt_session*);
  void (*free_model)(vlt_model*);
  find(library, "vlt_model_load", &load);
  find(library, "vlt_session_create", &create);
  find(library, "vlt_run", &run);
  find(library, "vlt_session_free", &free_session);
  find(library, "vlt_model_free", &free_model);

  static const int32_t ids[3] = {1, 2, 3}, starts[3] = {0, 1, 3};
  float hidden[3 * 1024];
  vlt_model* model = NULL;
  vlt_session* session = NULL;
  vlt_session_options options = {0};
  options.struct_size = sizeof(options);
  options.num_threads = 3;
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = 2;
  batch.num_tokens = 3;
  batch.token_ids = ids;
  batch.sequence_starts = starts;
  vlt_output output = {0};
  output.struct_size = sizeof(output);
  output.kind = VLT_OUTPUT_HIDDEN;
  output.data = hidden;
  output.bytes = sizeof(hidden);
  REQUIRE(load("/nowhere", NULL, &model) == VLT_FILE_ERROR); /* exceptions unwind in it */
  REQUIRE(load(weights, NULL, &model) == VLT_OK);
  REQUIRE(create(model, &options, &session) == VLT_OK);
  REQUIRE(run(session, &batch, &output, 1) == VLT_OK);
  free_session(session);
  free_model(model);
  REQUIRE(dlclose(library) == 0);
  return hidden[0];
}

/* A fork calls whatever the library registered for it. */
static void fork_once(void) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(0);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

static void* use_on_a_thread(void* arguments) {
  use(((const char**)arguments)[1], ((const char**)arguments)[2]);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int threads_before = count_threads();
  const float first = use(argv[1], argv[2]);
  for (int i = 0; i < 20; ++i) {
    fork_once();
    REQUIRE(use(argv[1], argv[2]) == first);
    REQUIRE(has_threads(threads_before));
  }
  /* A thread that has a message of vlt's own ends after the library is gone. */
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, use_on_a_thread, argv) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  return 0;
}
