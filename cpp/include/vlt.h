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
 *   Structs    The first field is struct_size = sizeof(the struct), at most 4096. New
 *              fields are only ever appended, and zero in one means "as before". A
 *              longer struct than the library knows is accepted only if the rest is
 *              zero, a shorter one reads as if the rest were zero; what the library
 *              fills in is cut or filled up with zeros to the caller's size.
 *   Versions   What clients of older and newer headers may rely on is in docs/ABI.md: within
 *              one VLT_ABI_VERSION things are added and nothing changes its meaning.
 *   Threads    Stated per handle below. Threads that the library starts take no
 *              signals but those of their own faults.
 *   Fork       Models and sessions on the CPU work in the child too, if no call on them
 *              was in progress in the parent. Threads are started anew at the first run.
 *              CUDA does not survive a fork: where a process that forks has loaded a
 *              model on a GPU, its children have to be started by exec (spawn).
 *   Arrays     Dense, row-major, in host memory unless a `memory` field says otherwise.
 *   CUDA       On a device the library needs the NVIDIA driver and nothing else. Any
 *              number of threads and sessions may use one device, and a call leaves
 *              the thread's current device as it found it.
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

/* ---- Log -------------------------------------------------------------------------- */

enum { VLT_LOG_WARNING = 1, VLT_LOG_INFO = 2, VLT_LOG_DEBUG = 3 };

/* One message, without a line's end. Called on the thread whose call it is about, one thread at a
 * time. It must not call vlt, nor throw. */
typedef void (*vlt_log_function)(void* context, int32_t level, const char* message);

/* Has the function called with what the library says besides errors, up to a level: what a caller
 * should know (WARNING), what is loaded and created and which device it went to (INFO), how
 * workspaces grow and batches are cut (DEBUG). NULL: silence, as at the start. One function serves
 * the process; the one before is not called any more once this returns. */
VLT_API vlt_status vlt_set_log(vlt_log_function function, void* context, int32_t level);

/* ---- Model: immutable weights on one device. Any number of threads may share one. */

typedef struct vlt_model vlt_model; /* reference-counted: a session keeps its model alive */

enum { VLT_DEVICE_AUTO = 0, VLT_DEVICE_CPU = 1, VLT_DEVICE_CUDA = 2 };
enum { VLT_DTYPE_AUTO = 0, VLT_FLOAT32 = 1, VLT_FLOAT16 = 2, VLT_BFLOAT16 = 3, VLT_INT8 = 4 };

typedef struct vlt_model_options {
  uint32_t struct_size;
  int32_t device_type;  /* VLT_DEVICE_*; AUTO: CUDA where it is usable, otherwise the CPU, unless
                           the environment variable VLT_DEVICE (cpu, cuda) decides */
  int32_t device_index; /* ordinal among devices of that type; the CPU has only 0 */
  int32_t compute_type; /* of weights; sums are float32. CUDA: of activations too, and AUTO means
                           VLT_FLOAT16. The CPU offers VLT_FLOAT32; VLT_BFLOAT16, which halves
                           the weights and, where the CPU multiplies bfloat16 fast (AMX; AMD from
                           Zen 4 on), rounds what they are multiplied with and takes less time;
                           and VLT_INT8, in which the layers' products take a quarter of the
                           bytes and, with VNNI or AMX, less time again: an output's weights
                           share a scale, a token's inputs are quantised as they come, and all
                           else is as with VLT_BFLOAT16. */
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
  int32_t device_index;
  int32_t num_labels;         /* N, outputs of the sequence head; 0: no such head */
  int32_t num_token_labels;   /* N, outputs of the token head; 0: no such head */
  int32_t vocabulary_outputs; /* V where there is a vocabulary head; 0: no such head */
  int32_t sparse_size;        /* V where that head makes sparse embeddings; 0: it does not */
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
 * runs, reserves or frees the session. allocate returns NULL when it has no memory, which ends
 * the call with VLT_OUT_OF_MEMORY. Both functions are needed. */
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
  const vlt_allocator* allocator; /* NULL: the system's memory; copied. CPU only */
  int32_t disable_graphs;         /* CUDA: 1: launch every kernel of a small batch anew instead of
                                     replaying a graph. Never changes a result. */
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

/* Warms up: grows the workspace once, so that later batches within the bound never allocate
 * (unless a larger one was refused memory in between), and on CUDA captures the graphs of
 * batches up to this size. */
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
  uint64_t graphs;             /* CUDA graphs captured and kept */
} vlt_memory_stats;

VLT_API vlt_status vlt_session_get_memory_stats(const vlt_session* session,
                                                vlt_memory_stats* stats);

/* Never grows: it has no struct_size. */
typedef struct vlt_profile_entry {
  const char* name; /* the operation; owned by the library */
  uint64_t calls;   /* one for each chunk of a batch and each layer */
  double seconds;   /* wall-clock time of one worker, averaged over the workers */
  double flops;     /* floating-point operations of the matrix products in it */
} vlt_profile_entry;

/* Operations measured since creation, in the order of the forward pass. *count is the
 * capacity of entries on entry and the number written on return; with entries NULL it
 * returns the number there are. No entries unless the session was created with profile. */
VLT_API vlt_status vlt_session_get_profile(const vlt_session* session, vlt_profile_entry* entries,
                                           int32_t* count);

/* ---- Running --------------------------------------------------------------------- */

/* VLT_MEMORY_DEVICE: of the model's CUDA device. */
enum { VLT_MEMORY_HOST = 0, VLT_MEMORY_DEVICE = 1 };

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
  int32_t memory;                 /* VLT_MEMORY_*: where all four arrays are */
  void* stream; /* a cudaStream_t in whose order device arrays are read and written: vlt_run then
                   waits for what it holds already, and returns before the work is done if every
                   output is on the device. NULL: vlt_run returns when the outputs are ready, and
                   device arrays must be ready too. The legacy default stream is (void*)1. */
  int32_t num_chosen;           /* C: tokens that VLT_OUTPUT_VOCABULARY is asked about; may be 0 */
  const int32_t* chosen_tokens; /* [C] on the host, ascending, each in 0 … T - 1: which of the
                                   packed tokens; may be NULL when C is 0 */
} vlt_packed_batch;

/* One that the model has no head for is VLT_UNSUPPORTED. */
enum {
  VLT_OUTPUT_HIDDEN = 1,       /* [T, H] the last layer's states */
  VLT_OUTPUT_EMBEDDING = 2,    /* [S, D] pooled; projected and normalised if the model says so.
                                  A sequence without a token to pool gives zeros from pooling. */
  VLT_OUTPUT_LOGITS = 3,       /* [S, N] what the sequence head makes of each sequence */
  VLT_OUTPUT_TOKEN_LOGITS = 4, /* [T, N] what the token head makes of each token */
  VLT_OUTPUT_VOCABULARY = 5,   /* [C, V] what the vocabulary head makes of the chosen tokens */
  VLT_OUTPUT_SPARSE = 6        /* [S, V] log(1 + max(that, 0)), the largest of each sequence's
                                  tokens; an empty sequence gives zeros */
};

typedef struct vlt_output {
  uint32_t struct_size;
  int32_t kind;   /* VLT_OUTPUT_* */
  int32_t dtype;  /* VLT_DTYPE_AUTO or VLT_FLOAT32; HIDDEN on CUDA also the compute type */
  void* data;     /* may be NULL when the output has no element */
  uint64_t bytes; /* size of data; too small is VLT_INVALID_ARGUMENT */
  int32_t memory; /* VLT_MEMORY_* */
} vlt_output;

/* Runs the model once and writes every output asked for; returns when they are ready, or
 * earlier where batch->stream says so. Values in device arrays are checked as they are read:
 * what they did wrong is VLT_INVALID_ARGUMENT from this call, or from the next one on this
 * session where this one returned earlier; the outputs are then undefined.
 * All outputs of a call have the same struct_size.
 * After VLT_CANCELLED, VLT_OUT_OF_MEMORY or VLT_INTERNAL the outputs may be partly written.
 * The result for a sequence is the same to the bit whatever else is in the batch. */
VLT_API vlt_status vlt_run(vlt_session* session, const vlt_packed_batch* batch,
                           const vlt_output* outputs, int32_t num_outputs);

/* Waits for runs that returned before they were done, and reports what they found wrong. */
VLT_API vlt_status vlt_session_synchronize(vlt_session* session);

/* ---- Device memory, for callers without a CUDA of their own -------------------------- */

/* Memory on the model's device, aligned to 256 bytes; NULL for 0 bytes. Free it before the model.
 * For a model on the CPU: VLT_UNSUPPORTED. */
VLT_API vlt_status vlt_device_allocate(const vlt_model* model, uint64_t num_bytes,
                                       void** out_memory);
/* Work in progress may still use the memory: it is reused or given back only once the device is
 * done. Accepts NULL. */
VLT_API void vlt_device_free(const vlt_model* model, void* memory);
/* Copies between host and device memory, either way, or within one; returns when it is done. */
VLT_API vlt_status vlt_device_copy(const vlt_model* model, void* to, const void* from,
                                   uint64_t num_bytes);

/* ---- Scheduler: which of the waiting requests to run now. One thread at a time. ------ */

/* A packed batch of lengths L takes base + per_token * sum of L + per_square * sum of L * L
 * seconds. None is negative. */
typedef struct vlt_cost_model {
  uint32_t struct_size;
  double base;
  double per_token;
  double per_square;
} vlt_cost_model;

/* Never grows: it has no struct_size. */
typedef struct vlt_cost_point {
  double num_tokens; /* sum of L, at least 0 */
  double squares;    /* sum of L * L, at least 0 */
  double seconds;    /* what that batch took, above 0 */
} vlt_cost_point;

/* The model that fits the measured points best, by least squares of the relative errors. What the
 * points do not tell apart is left at zero. A pure function, as the next two are. */
VLT_API vlt_status vlt_cost_model_fit(const vlt_cost_point* points, int32_t num_points,
                                      vlt_cost_model* model);

/* Seconds of padded batches, for engines that pad. Between the measured ones costs are linear;
 * below the smallest they are that of the smallest; above the largest they are unknown. */
typedef struct vlt_padded_costs {
  uint32_t struct_size;
  int32_t num_lengths;        /* R, at least 1 */
  const int32_t* lengths;     /* [R] ascending, the first at least 1 */
  int32_t num_batch_sizes;    /* C, at least 1 */
  const int32_t* batch_sizes; /* [C] ascending, the first at least 1 */
  const double* seconds;      /* [R, C], at least 0 */
} vlt_padded_costs;

VLT_API vlt_status vlt_padded_seconds(const vlt_padded_costs* costs, int32_t length,
                                      int32_t batch_size, double* out_seconds);

/* Divides N requests, sorted by length, into padded batches of at most max_requests so that the
 * sum of their costs is the least that any such division has. Batch i consists of the requests
 * out_order[out_ends[i - 1]] … out_order[out_ends[i] - 1], the first one from 0 on. Takes time in
 * proportion to N * max_requests. */
VLT_API vlt_status vlt_plan_padded(const vlt_padded_costs* costs,
                                   const int32_t* lengths, /* [N] each at least 1 */
                                   int32_t num_requests,   /* N; may be 0 */
                                   int32_t max_requests,   /* at most the largest batch size */
                                   int32_t* out_order,     /* [N] */
                                   int32_t* out_ends,      /* [N], of which the first are set */
                                   int32_t* out_num_batches);

typedef struct vlt_scheduler vlt_scheduler;

enum {
  VLT_POLICY_LATENCY = 0, /* short waits: short requests get a head start, batches stay small */
  VLT_POLICY_FIFO = 1,    /* oldest first, as many as the budgets allow */
  VLT_POLICY_ONE = 2      /* oldest first, one by one */
};

typedef struct vlt_scheduler_options {
  uint32_t struct_size;
  int32_t policy;             /* VLT_POLICY_* */
  const vlt_cost_model* cost; /* copied; LATENCY needs it, to the others it may be NULL */
  int64_t max_tokens;         /* of a batch; a longer request runs alone; 0: 16384 */
  int32_t max_requests;       /* of a batch; 0: 512 */
  double max_wait;            /* seconds: the most by which a later request of the same priority may
                                 have come and still go first; 0: 0.5 */
  double linger;              /* seconds that a request waits for company before a batch starts that
                                 is not full; 0: an idle device takes what there is */
} vlt_scheduler_options;

typedef struct vlt_request {
  uint32_t struct_size;
  int32_t priority; /* -1000 … 1000; one level more is worth having come max_wait earlier */
  int64_t request;  /* the caller's number for it; no other waiting request may have it */
  int64_t length;   /* tokens, 0 … 2147483647 */
  double arrival;   /* seconds on the caller's clock, on which every other time is too */
  double time_left; /* seconds from arrival until it should be done: it may go up to max_wait
                        earlier for that. It is never dropped. 0: no limit */
} vlt_request;

/* The scheduler has no clock and no thread, and the same calls give the same batches. Adding,
 * removing and taking a request take time in proportion to the logarithm of those waiting. */
VLT_API vlt_status vlt_scheduler_create(const vlt_scheduler_options* options,
                                        vlt_scheduler** out_scheduler);
VLT_API void vlt_scheduler_free(vlt_scheduler* scheduler);

VLT_API vlt_status vlt_scheduler_add(vlt_scheduler* scheduler, const vlt_request* request);

/* Writes 1 if the request was waiting and is no more, 0 if it was not waiting. */
VLT_API vlt_status vlt_scheduler_remove(vlt_scheduler* scheduler, int64_t request,
                                        int32_t* out_removed);

/* Takes the batch to run now out of those waiting. *count is the capacity of out_requests on entry,
 * at least 1, and the size of the batch on return: 0 if none is to start yet. */
VLT_API vlt_status vlt_scheduler_next_batch(vlt_scheduler* scheduler, double now,
                                            int64_t* out_requests, int32_t* count);

/* The time from which on vlt_scheduler_next_batch has a batch, if nothing is added: -INFINITY
 * where it has one at any time, INFINITY where nothing waits. */
VLT_API vlt_status vlt_scheduler_wake_at(const vlt_scheduler* scheduler, double* out_time);

typedef struct vlt_scheduler_stats {
  uint32_t struct_size; /* in: set by the caller; no byte past it is written */
  int64_t num_waiting;
  int64_t waiting_tokens;
  double waiting_seconds; /* by the cost model, without the base of each batch */
} vlt_scheduler_stats;

VLT_API vlt_status vlt_scheduler_get_stats(const vlt_scheduler* scheduler,
                                           vlt_scheduler_stats* stats);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* VLT_H_ */
