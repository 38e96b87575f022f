// What a device must offer to run an encoder: prepare weights, and run nine fused operations.
//
// An operation is one line of the forward pass (encoder/forward.cpp); a device is free to run it as
// one kernel or several. Operations give every row (every sequence, for attention and pooling) the
// same bits whatever other rows are present. Where several workers share them they throw nothing.
//
// Letters: T tokens, S sequences, C chosen tokens, H hidden, A heads, D head size, N outputs and K inputs of a
// linear layer. Matrices are row-major; `stride` is the distance of two rows in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/enums.h"

namespace vlt {

// Which rows of a batch a matrix has.
enum class RowsOf { kTokens, kSequences, kChosen };

// Rows in the device's memory, not owned.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  DType dtype = DType::kFloat32;
  RowsOf rows_of = RowsOf::kTokens;
  // On devices with memory of their own `rows` is room, and how many rows a batch has is known
  // there. Only they use this: `data` is where the device finds the address of the rows.
  bool indirect = false;

  float* floats() const { return static_cast<float*>(data); }
  float* row(int64_t r) const { return floats() + r * stride; }
};

// A linear layer as a backend prepared it: only that backend knows the layout behind `data`.
// Owned by the model.
struct LinearWeights {
  const char* name = "linear";  // what the profile calls it
  const void* data = nullptr;   // prepacked [N, K]
  const float* bias = nullptr;  // [N], padded with zeros as the backend needs; never null
  int64_t outputs = 0;          // N
  int64_t inputs = 0;           // K
  int64_t stride = 0;           // elements from output to output, where `data` is row-major
  // Where `data` is int8, as Int8Weights says, padded with zeros as the backend needs:
  const float* scales = nullptr;         // [N]
  const float* sums = nullptr;           // [N] of an output's numbers
  const float* input_factors = nullptr;  // [K], or null for ones
};

// A linear layer's weights as 8-bit integers, in host memory: weight[n][k] ≈ scales[n] · values[n][k]
// · input_factors[k]. Inputs are multiplied by their factors before they are quantised themselves.
struct Int8Weights {
  const int8_t* values = nullptr;        // [N, K], -127 … 127
  const float* scales = nullptr;         // [N]
  const float* input_factors = nullptr;  // [K], or null for ones
  int64_t outputs = 0;
  int64_t inputs = 0;  // at most kMostInt8Inputs
};
// Up to here sums of products with 0 … 255 fit an int32.
constexpr int64_t kMostInt8Inputs = 65536;

struct NormWeights {
  const float* weight = nullptr;  // [H]
  const float* bias = nullptr;    // [H]
  float epsilon = 0;
};

// What attention adds to the products of queries and keys by their distance, key less query, which
// is -(P - 1) … P - 1 where P is the longest sequence: index `distance + P - 1`. Either a bias of
// the scaled score, or the terms of disentangled attention (He et al. 2021, arXiv:2006.03654, eq. 4),
// which are scaled with the product:
//   score(i, j) = scale · (q_i · k_j + q_i · key_rows[r] + query_rows[r] · k_j),  r = row[distance]
// As host arrays; what a backend makes of them is in its own layout.
struct RelativeTensors {
  int32_t num_heads = 0;              // A
  int32_t head_size = 0;              // D
  int64_t num_distances = 0;          // 2P - 1
  const float* bias = nullptr;        // [A, 2P - 1], or null
  int64_t num_rows = 0;               // R
  const int32_t* row = nullptr;       // [2P - 1], below R, each the one before or one more; or null
  const float* key_rows = nullptr;    // [R, A·D] (content to position), or null
  const float* query_rows = nullptr;  // [R, A·D] (position to content), or null
};

// The same as a backend prepared it; only that backend knows the layouts.
struct RelativeWeights {
  int64_t num_distances = 0;
  int64_t num_rows = 0;
  const void* bias = nullptr;
  const int32_t* row = nullptr;
  const void* key_rows = nullptr;
  const void* query_rows = nullptr;
};

struct EmbeddingTables {
  const void* word = nullptr;        // [V, H] of the backend's compute type
  const void* position = nullptr;    // [P, H], or null
  const void* token_type = nullptr;  // [Y, H], or null
  int32_t vocab_size = 0;            // V
  int32_t num_token_types = 0;       // Y
  int64_t position_offset = 0;
  NormWeights norm;
};

// The part of a packed batch that one forward pass sees. Starts need not begin at 0: token t of
// sequence s is row sequence_starts[s] - sequence_starts[0] + t of every matrix.
struct Sequences {
  const int32_t* token_ids = nullptr;        // [T]
  const int32_t* token_types = nullptr;      // [T], or null for all zero
  const int32_t* sequence_starts = nullptr;  // [S + 1]
  const int32_t* pooling_starts = nullptr;   // [S], or null for all zero
  const int32_t* chosen_tokens = nullptr;  // [C], ascending; token c is row c - sequence_starts[0]
  int32_t num_sequences = 0;
  int32_t num_chosen = 0;

  int32_t first_row(int32_t s) const { return sequence_starts[s] - sequence_starts[0]; }
  int32_t length(int32_t s) const { return sequence_starts[s + 1] - sequence_starts[s]; }
  int32_t num_tokens() const { return first_row(num_sequences); }
  int32_t pooling_start(int32_t s) const { return pooling_starts ? pooling_starts[s] : 0; }
};

// One stream of work on one device. On the CPU several workers call the same operation together and
// each does its share; an operation returns once its result may be read by the next one.
class Operations {
 public:
  virtual ~Operations() = default;

  // out [T, H] = norm(word[id] + token_type[type] + position[index in the sequence + offset]);
  // tables that are null add nothing
  virtual void embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                               const Matrix& out) = 0;

  // out [M, N] = activation(in [M, K] · weightᵀ + bias)
  virtual void linear(const Matrix& in, const LinearWeights& weights, Activation activation,
                      const Matrix& out) = 0;

  // out [M, N] = norm(in [M, K] · weightᵀ + bias + residual [M, N]); out is not residual, which may
  // be overwritten.
  virtual void linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                         const Matrix& residual, const NormWeights& norm,
                                         const Matrix& out) = 0;

  // out [M, N] = norm(in + residual), or norm(in) where residual is null; out may be in
  virtual void layernorm(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                         const Matrix& out) = 0;

  // For each sequence and head: out [L, D] = softmax(q · kᵀ · scale) · v, where qkv [T, 3·A·D]
  // holds all queries, then all keys, then all values, head-major; out is [T, A·D]. `relative`, if
  // not null, changes the scores.
  virtual void attention(const Sequences& sequences, const Matrix& qkv, int num_heads, float scale,
                         const RelativeWeights* relative, const Matrix& out) = 0;

  // out [T, width · H]: for each token the rows of `in` from width / 2 tokens before it to width / 2
  // after it, side by side; zeros for tokens that its sequence does not have. width is odd.
  virtual void unfold(const Sequences& sequences, const Matrix& in, int width,
                      const Matrix& out) = 0;

  // out [C, H]: the chosen tokens' rows of in [T, H].
  virtual void gather(const Sequences& sequences, const Matrix& in, const Matrix& out) = 0;

  // out [S, H · modes]: each sequence's states reduced by every mode in turn. A sequence whose
  // tokens all lie before its pooling start gives zeros. States of RowsOf::kSequences are of one
  // token a sequence, the one that kCls takes, which is then the only mode.
  virtual void pool(const Sequences& sequences, const Matrix& states,
                    const std::vector<PoolingMode>& modes, const Matrix& out) = 0;

  // Rows divided by max(L2 norm, 1e-12), in place.
  virtual void normalize(const Matrix& rows) = 0;

  // True once the caller wants the run to end early; all workers of a stream get the same answer.
  virtual bool should_stop() = 0;
};

// What a session on the host runs on: the workers of a thread team.
class Stream {
 public:
  virtual ~Stream() = default;

  virtual int num_workers() const = 0;

  enum class Mode {
    kTogether,  // all workers share every operation
    kAlone      // each worker has operations of its own and does other work than its siblings
  };

  // Calls body once on each of the first `workers` workers, and returns when all have returned.
  // `scratch` is workers × scratch_bytes of workspace. The first exception of a body is rethrown.
  virtual void run(Mode mode, int workers, std::byte* scratch, uint64_t scratch_bytes,
                   const std::function<bool()>& stop_requested,
                   const std::function<void(int worker, Operations& operations)>& body) = 0;
};

// Memory for prepared weights, freed together.
class WeightPool {
 public:
  virtual ~WeightPool() = default;
  // Uninitialised, aligned to 64 bytes or more, valid as long as the pool. Throws std::bad_alloc.
  virtual void* allocate(uint64_t bytes) = 0;
  virtual uint64_t bytes() const = 0;  // that the pool holds
};

class HostBackend;
class DeviceBackend;

// How one kind of device holds a model. What runs it is a HostBackend's or a DeviceBackend's.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;
  // Of the weights. kInt8: of those that prepare_int8_linear takes; others are held more exactly.
  virtual DType compute_type() const = 0;
  // Of what operations read and write.
  virtual DType activation_type() const { return compute_type(); }
  virtual std::unique_ptr<WeightPool> create_weight_pool() const = 0;

  // Each copies from host memory into the pool, in the layout its kernels want; the source is not
  // needed afterwards.
  virtual LinearWeights prepare_linear(const float* weight /* [N, K] */,
                                       const float* bias /* [N] or null */, int64_t outputs,
                                       int64_t inputs, WeightPool& pool) const = 0;
  virtual const void* prepare_table(const float* values, int64_t count, WeightPool& pool) const = 0;
  virtual const float* prepare_vector(const float* values, int64_t count,
                                      WeightPool& pool) const = 0;
  virtual RelativeWeights prepare_relative(const RelativeTensors& tensors,
                                           WeightPool& pool) const = 0;

  // Distance of two rows of an activation with `cols` columns, in elements.
  virtual int64_t row_stride(int64_t cols) const = 0;

  // One of the two is not null.
  virtual const HostBackend* as_host() const { return nullptr; }
  virtual const DeviceBackend* as_device() const { return nullptr; }
};

class HostBackend : public Backend {
 public:
  const HostBackend* as_host() const final { return this; }
  DType activation_type() const final { return DType::kFloat32; }
  std::unique_ptr<WeightPool> create_weight_pool() const override;
  const void* prepare_table(const float* values, int64_t count, WeightPool& pool) const override;
  const float* prepare_vector(const float* values, int64_t count, WeightPool& pool) const override;

  // Workspace a worker needs for itself when the longest sequence is max_length. num_relative_rows:
  // R of the model's disentangled attention, otherwise 0.
  virtual uint64_t scratch_bytes(int64_t max_length, int64_t head_size,
                                 int64_t num_relative_rows) const = 0;

  // Like prepare_linear, where compute_type() is kInt8.
  virtual LinearWeights prepare_int8_linear(const Int8Weights& weights,
                                            const float* bias /* [N] or null */,
                                            WeightPool& pool) const = 0;

  virtual std::unique_ptr<Stream> create_stream(int num_workers) const = 0;
};

}  // namespace vlt
