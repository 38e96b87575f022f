/* vlt.h - C interface of libvlt: packed variable-length transformer encoders.
 *
 * Everything a caller may rely on is in this file. Conventions, stated once:
 *
 *   Errors     A function that can fail returns vlt_status. On failure its outputs
 *              are untouched unless its comment says otherwise, and vlt_last_error()
 *              explains, on the same thread. No call ends the process.
 *   Ownership  A handle written through out_* belongs to the caller until its
 *              vlt_*_free(), which accepts NULL. Arrays passed in are borrowed: they
 *              must stay alive until the call returns, never longer.
 *   Structs    The first field is struct_size = sizeof(the struct). A zero in any
 *              other field means "the default", so new fields can be appended. A
 *              longer struct than the library knows is accepted only if the rest is
 *              zero; a shorter one reads as if the rest were zero.
 *   Threads    Stated per handle below.
 *   Arrays     Dense, row-major, host memory.
 *   Letters    T tokens in the batch, S sequences, H hidden size, D embedding size.
 *
 * The shortest useful program:
 *
 *   vlt_model* model = NULL;
 *   vlt_session* session = NULL;
 *   vlt_model_load("weights.bin", NULL, &model);
 *   vlt_session_create(model, NULL, &session);
 *   vlt_run(session, &batch, &output, 1);
 */
#ifndef VLT_H_
#define VLT_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(VLT_BUILDING)
#define VLT_API __declspec(dllexport)
#elif defined(_WIN32)
#define VLT_API __declspec(dllimport)
#else
#define VLT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version and errors -------------------------------------------------- */

/* Raised only when a declaration below changes meaning; additions leave it alone. */
#define VLT_ABI_VERSION 1

/* Compare with VLT_ABI_VERSION before any other call. */
VLT_API int32_t vlt_abi_version(void);

/* JSON object: "version", "compiler", "instruction_sets" (built in, best first),
 * "cuda_architectures". Never NULL; owned by the library. */
VLT_API const char* vlt_build_info(void);

typedef int32_t vlt_status; /* fixed width: C enums have no portable size */
enum {
  VLT_OK = 0,
  VLT_INVALID_ARGUMENT = 1, /* the caller broke a rule written in this file */
  VLT_OUT_OF_MEMORY = 2,    /* the handle stays usable */
  VLT_FILE_ERROR = 3,       /* missing, unreadable, or not a valid weights file */
  VLT_UNSUPPORTED = 4,      /* valid request, but not on this build or device */
  VLT_DEVICE_ERROR = 5,     /* the device failed; free the session and make a new one */
  VLT_INTERNAL = 6,         /* a bug in vlt */
  VLT_CANCELLED = 7         /* vlt_session_cancel() was called */
};

/* English explanation of this thread's latest failure. Never NULL. Owned by the
 * library, valid until the next failing vlt call on this thread. */
VLT_API const char* vlt_last_error(void);

/* ---- Model: immutable weights on one device. Any number of threads may share one. */

typedef struct vlt_model vlt_model; /* reference-counted: a session keeps its model alive */

enum { VLT_DEVICE_AUTO = 0, VLT_DEVICE_CPU = 1, VLT_DEVICE_CUDA = 2 };
enum { VLT_DTYPE_AUTO = 0, VLT_FLOAT32 = 1, VLT_FLOAT16 = 2, VLT_BFLOAT16 = 3 };

typedef struct vlt_model_options {
  uint32_t struct_size;
  int32_t device_type;  /* VLT_DEVICE_*; this build offers the CPU */
  int32_t device_index; /* ordinal among devices of that type; the CPU has only 0 */
  int32_t compute_type; /* dtype of the matrix products; the CPU offers VLT_FLOAT32 */
} vlt_model_options;

typedef struct vlt_model_info {
  uint32_t struct_size; /* in: set by the caller; no byte past it is written */
  int32_t device_type;
  int32_t compute_type;
  int32_t num_layers;
  int32_t hidden_size; /* H */
  int32_t num_heads;
  int32_t head_size;
  int32_t intermediate_size;
  int32_t vocab_size;
  int32_t num_token_types; /* 0: the model has none */
  int32_t max_length;      /* longest sequence the position table covers */
  int32_t embedding_size;  /* D; 0: no embedding head */
  uint64_t weight_bytes;   /* memory held by the prepared weights */
  const char* kernels;     /* name of the instruction set in use; owned by the library */
} vlt_model_info;

/* Reads a weights file, prepares it for the device and lets go of the file. Every
 * offset in it is checked before it is used. options may be NULL. */
VLT_API vlt_status vlt_model_load(const char* path, const vlt_model_options* options,
                                  vlt_model** out_model);
VLT_API vlt_status vlt_model_load_memory(const void* bytes, uint64_t num_bytes,
                                         const vlt_model_options* options, vlt_model** out_model);
VLT_API vlt_status vlt_model_get_info(const vlt_model* model, vlt_model_info* info);

/* The weights file's metadata (docs/WEIGHTS_FILE.md), NUL-terminated UTF-8, owned by the
 * model. NULL: no such key, or the index is past the last key. */
VLT_API const char* vlt_model_metadata(const vlt_model* model, const char* key);
VLT_API const char* vlt_model_metadata_key(const vlt_model* model, int32_t index);

/* The bytes of the tokenizer.json inside the weights file, owned by the model.
 * Writes NULL and 0 where the file has none. */
VLT_API vlt_status vlt_model_get_tokenizer(const vlt_model* model, const void** out_bytes,
                                           uint64_t* out_num_bytes);

VLT_API void vlt_model_free(vlt_model* model); /* sessions keep what they need */

/* ---- Session: one stream of work and one workspace. One thread at a time. ------- */

typedef struct vlt_session vlt_session;

typedef void* (*vlt_allocate_function)(void* context, uint64_t num_bytes, uint64_t alignment);
typedef void (*vlt_release_function)(void* context, void* memory, uint64_t num_bytes);

/* Where a session's workspace comes from, instead of the system. Called on the thread that
 * runs the session. allocate returns NULL when it has no memory, which ends the call with
 * VLT_OUT_OF_MEMORY. Both functions are needed. */
typedef struct vlt_allocator {
  uint32_t struct_size;
  vlt_allocate_function allocate;
  vlt_release_function release;
  void* context; /* passed to both; must outlive the session */
} vlt_allocator;

typedef struct vlt_session_options {
  uint32_t struct_size;
  int32_t num_threads;            /* 0: every usable core; 1: starts no thread; at most 1024 */
  uint64_t workspace_limit;       /* bytes; a batch that needs more is run in parts; 0: no limit */
  int32_t profile;                /* 1: measure every operation (a few per cent slower) */
  const vlt_allocator* allocator; /* NULL: the system's memory; copied */
} vlt_session_options;

/* Sessions of one process share its worker threads; runs that need them take turns. */
VLT_API vlt_status vlt_session_create(vlt_model* model, const vlt_session_options* options,
                                      vlt_session** out_session);
VLT_API void vlt_session_free(vlt_session* session);

/* From any thread: the run in progress returns VLT_CANCELLED soon. Without a run in
 * progress it does nothing. */
VLT_API vlt_status vlt_session_cancel(vlt_session* session);

/* Bytes of workspace that batches up to this size need when no limit is set. Pure
 * arithmetic: allocates nothing, and never decreases when an argument grows. */
VLT_API vlt_status vlt_session_workspace_bytes(const vlt_session* session, int64_t num_tokens,
                                               int32_t num_sequences, int32_t max_length,
                                               uint64_t* out_bytes);

/* Grows the workspace once, so that later batches within the bound never allocate. */
VLT_API vlt_status vlt_session_reserve(vlt_session* session, int64_t num_tokens,
                                       int32_t num_sequences, int32_t max_length);

typedef struct vlt_memory_stats {
  uint32_t struct_size;        /* in: set by the caller; no byte past it is written */
  uint64_t planned_peak_bytes; /* workspace the latest run needs, in whole pages */
  uint64_t held_bytes;         /* workspace memory held now */
  uint64_t peak_held_bytes;    /* the most it ever held */
  uint64_t system_allocations; /* times the workspace asked the system for memory */
  uint64_t releases;           /* times it gave memory back */
  uint64_t runs;               /* batches run */
  uint64_t parts;              /* pieces they were run in; limits and caches split batches */
  double planning_seconds;     /* time spent planning, since creation */
} vlt_memory_stats;

VLT_API vlt_status vlt_session_get_memory_stats(const vlt_session* session,
                                                vlt_memory_stats* stats);

/* Never grows: it has no struct_size. */
typedef struct vlt_profile_entry {
  const char* name; /* the operation; owned by the library */
  uint64_t calls;
  double seconds; /* wall-clock time of one worker, averaged over the workers */
  double flops;   /* floating-point operations of the matrix products in it */
} vlt_profile_entry;

/* Operations measured since creation, in the order of the forward pass. *count is the
 * capacity of entries on entry and the number written on return; with entries NULL it
 * returns the number there are. All zero unless the session was created with profile. */
VLT_API vlt_status vlt_session_get_profile(const vlt_session* session, vlt_profile_entry* entries,
                                           int32_t* count);

/* ---- Running --------------------------------------------------------------------- */

/* S sequences laid end to end, T tokens in all, no padding. */
typedef struct vlt_packed_batch {
  uint32_t struct_size;
  int32_t num_sequences;          /* S; may be 0 */
  int64_t num_tokens;             /* T; must equal the last start */
  const int32_t* token_ids;       /* [T], each in 0 … vocab_size - 1; may be NULL when T is 0 */
  const int32_t* sequence_starts; /* [S + 1], ascending from 0; an empty sequence is allowed */
  const int32_t* token_types;     /* [T], or NULL for all zero */
  const int32_t* pooling_starts;  /* [S] tokens to leave out of pooling at each sequence's
                                     head (prompts), or NULL for none */
} vlt_packed_batch;

enum {
  VLT_OUTPUT_HIDDEN = 1,   /* [T, H] the last layer's states */
  VLT_OUTPUT_EMBEDDING = 2 /* [S, D] pooled; projected and normalised if the model says so.
                              A sequence without a token to pool gives zeros from pooling. */
};

typedef struct vlt_output {
  uint32_t struct_size;
  int32_t kind;   /* VLT_OUTPUT_* */
  int32_t dtype;  /* VLT_DTYPE_AUTO or VLT_FLOAT32 */
  void* data;     /* may be NULL when the output has no element */
  uint64_t bytes; /* size of data; too small is VLT_INVALID_ARGUMENT */
} vlt_output;

/* Runs the model once and writes every output asked for; returns when they are ready.
 * All outputs of a call have the same struct_size.
 * After VLT_CANCELLED or VLT_OUT_OF_MEMORY the outputs may be partly written.
 * The result for a sequence is the same to the bit whatever else is in the batch. */
VLT_API vlt_status vlt_run(vlt_session* session, const vlt_packed_batch* batch,
                           const vlt_output* outputs, int32_t num_outputs);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* VLT_H_ */
