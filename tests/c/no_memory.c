/* Takes memory away at every single place where loading and running ask for it.
 *
 *   no_memory WEIGHTS NUM_THREADS
 *
 * The program's own malloc and its kin come before the C library's, the library under test included,
 * and refuse the n-th request for memory or for a thread: once alone, once with all after it; for
 * n = 1, 2, … until a call needs no n-th. Then a call either fails with VLT_OUT_OF_MEMORY and leaves
 * its outputs and handles as they were, or does not need what it asked for; nothing is lost in
 * either case. Exit code 0, and a line with the number of requests for each call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vlt.h"

/* ---- Memory that can be refused --------------------------------------------------- */

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

static atomic_long requests;   /* since refuse_from() */
static atomic_long refuse_at;  /* 0: nothing is refused */
static atomic_int refuse_rest; /* what comes after it too */
static atomic_long refused;
static atomic_long live_blocks;

static void refuse_from(long n, int rest) {
  atomic_store(&requests, 0);
  atomic_store(&refused, 0);
  atomic_store(&refuse_rest, rest);
  atomic_store(&refuse_at, n);
}

/* How many requests were refused. */
static long refuse_nothing(void) {
  atomic_store(&refuse_at, 0);
  return atomic_load(&refused);
}

static int granted(void) {
  const long first = atomic_load(&refuse_at);
  if (first == 0) return 1;
  const long n = atomic_fetch_add(&requests, 1) + 1;
  if (n != first && !(n > first && atomic_load(&refuse_rest))) return 1;
  atomic_fetch_add(&refused, 1);
  errno = ENOMEM;
  return 0;
}

static void* counted(void* block) {
  if (block) atomic_fetch_add(&live_blocks, 1);
  return block;
}

void* malloc(size_t bytes) { return granted() ? counted(__libc_malloc(bytes)) : NULL; }
void* calloc(size_t count, size_t bytes) {
  return granted() ? counted(__libc_calloc(count, bytes)) : NULL;
}
void* realloc(void* block, size_t bytes) {
  if (!granted()) return NULL;
  void* moved = __libc_realloc(block, bytes);
  return block ? moved : counted(moved);
}
void* memalign(size_t alignment, size_t bytes) {
  return granted() ? counted(__libc_memalign(alignment, bytes)) : NULL;
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  void* block = memalign(alignment, bytes);
  if (!block) return ENOMEM;
  *out = block;
  return 0;
}
void free(void* block) {
  if (block) atomic_fetch_sub(&live_blocks, 1);
  __libc_free(block);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  if (!granted()) return MAP_FAILED;
  void* mapped = (void*)syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
  if (mapped != MAP_FAILED && !(flags & MAP_FIXED)) atomic_fetch_add(&live_blocks, 1);
  return mapped;
}
int munmap(void* address, size_t bytes) {
  atomic_fetch_sub(&live_blocks, 1);
  return (int)syscall(SYS_munmap, address, bytes);
}
int mprotect(void* address, size_t bytes, int protection) {
  return granted() ? (int)syscall(SYS_mprotect, address, bytes, protection) : -1;
}

typedef int (*create_function)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
static create_function real_create;

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  return granted() ? real_create(thread, attributes, start, argument) : EAGAIN;
}

/* ---- The calls -------------------------------------------------------------------- */

static const char* current_call = "start";
static long current_request;

/* What a rule that does not hold is printed with; memory is there again from here on. */
static const char* explain(void) {
  static char text[512];
  refuse_nothing();
  snprintf(text, sizeof(text), "%s, at request %ld of %s", vlt_last_error(), current_request,
           current_call);
  return text;
}
#define LAST_ERROR explain()
#include "batches.h"

static const char* path;
static vlt_session_options session_options;
static vlt_model* model;
static vlt_session* session;
enum { BATCH = 7 }; /* of several sequences, some of them empty */
static test_batch batch;

static vlt_status load(void) { return vlt_model_load(path, NULL, &model); }
static vlt_status create(void) { return vlt_session_create(model, &session_options, &session); }
static vlt_status reserve(void) { return vlt_session_reserve(session, 4096, 64, 6); }
static vlt_status run(void) { return run_batch(session, &batch); }

static void must(vlt_status status) { REQUIRE(status == VLT_OK); }

static void drop(void) {
  vlt_session_free(session);
  session = NULL;
  vlt_model_free(model);
  model = NULL;
}

/* Everything before `call` happens with all the memory it asks for. */
static void prepare(vlt_status (*call)(void)) {
  if (call == load) return;
  must(load());
  if (call == create) return;
  must(create());
}

/* What works after `call` failed: the call itself and all that follows, with the right result. */
static void finish(vlt_status (*call)(void), const float* expected) {
  if (!model) must(load());
  if (!session) must(create());
  if (call == reserve) must(reserve());
  memset(batch.hidden, 0, batch.output.bytes);
  must(run());
  REQUIRE(memcmp(batch.hidden, expected, batch.output.bytes) == 0);
}

static void check(const char* name, vlt_status (*call)(void), int rest, const float* expected) {
  current_call = name;
  long failures = 0;
  for (current_request = 1;; ++current_request) {
    const long before = atomic_load(&live_blocks);
    prepare(call);
    const long prepared = atomic_load(&live_blocks);
    refuse_from(current_request, rest);
    const vlt_status status = call();
    const long refusals = refuse_nothing();
    if (status != VLT_OK) {
      ++failures;
      REQUIRE(refusals > 0);
      REQUIRE(status == VLT_OUT_OF_MEMORY);
      REQUIRE(vlt_last_error()[0] != '\0');
      REQUIRE(call != load || !model);
      REQUIRE(call != create || !session);
      /* A session may have grown half way; the others must not hold anything. */
      REQUIRE(call == run || call == reserve || atomic_load(&live_blocks) == prepared);
    }
    finish(call, expected);
    drop();
    REQUIRE(atomic_load(&live_blocks) == before);
    if (refusals == 0) break;
  }
  REQUIRE(failures > 0);
  printf("%s: %ld requests, %ld of them needed\n", name, current_request - 1, failures);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  path = argv[1];
  *(void**)&real_create = dlsym(RTLD_NEXT, "pthread_create");
  setvbuf(stdout, NULL, _IONBF, 0);
  session_options.struct_size = sizeof(session_options);
  session_options.num_threads = atoi(argv[2]);

  /* What is made once a process is made here. */
  must(load());
  const vlt_model_info info = info_of(model);
  batch = make_batch(&info, BATCH);
  REQUIRE(batch.batch.num_sequences > 1);
  float* expected = malloc(batch.output.bytes);
  REQUIRE(expected);
  must(create());
  must(reserve());
  must(run());
  memcpy(expected, batch.hidden, batch.output.bytes);
  drop();

  for (int rest = 0; rest <= 1; ++rest) {
    check("load", load, rest, expected);
    check("create", create, rest, expected);
    check("reserve", reserve, rest, expected);
    check("run", run, rest, expected);
  }
  free_batch(&batch);
  free(expected);
  return 0;
}
