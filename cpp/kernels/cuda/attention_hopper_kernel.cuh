// Attention of long sequences on sm_90a: out = softmax(q · kᵀ · scale) · v for each head.
//
// A persistent block takes items of up to 192 queries (of heads of 128: up to 128) of one sequence and
// one head. One warp copies tiles of 128 keys and values into rings of stages (TMA), one warp clears
// the values behind a sequence's end, and three warpgroups (two) of 64 queries multiply (wgmma) with
// an online softmax: scores and weights never leave registers. A warpgroup issues scores(n) and
// output += weights(n - 1) · values at once and takes the softmax of tile n while the latter runs, and
// the warpgroups drift apart, so that one's products run under another's softmax: three do so better
// than two (by 1.2 to 1.3 times at D = 32), and better by themselves than in turns.
//
//   shared memory   | queries × 2 | keys × stages | values × stages | barriers |
//   a tile          128 rows × D (queries: as many as an item's), as parts of up to 64 columns: rows of
//                   64 or 128 bytes, swizzled
//   registers       scores 64, weights 32, output D / 2; the whole file: 3 × 160 + 32 or 2 × 232 + 40
//                   for each of 128 threads
//
// The tile with a sequence's last keys comes first, so that the loop needs no mask. What is behind
// the end belongs to others and may be NaN: scores there are replaced before the maximum, values
// are overwritten with zeros (a zero weight would not silence them), queries are not stored.
//
// Roofline: a tile of 64 × 128 scores costs a multiprocessor 8·D cycles of products and 512 of
// exponentials (16 a cycle): at D = 64 as much of each, at D = 32 the exponentials bind. Keys and
// values come from L2 at 2·D·2 bytes for 4·D·192 flops: 2.6 TB/s at 500 TFLOP/s.
//
// Order of sums: tiles as above, columns by two partial sums a thread, then the four threads of a
// row. It depends on nothing but the sequence's length. The scale must be positive.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/wgmma.cuh"

namespace vlt::cuda::hopper {

constexpr int kKeyTile = 128;
constexpr int kGroupRows = 64;  // queries of a warpgroup, and rows of a box of the copy engine
constexpr int kGroupThreads = 128;
constexpr float kNegativeInfinity = -__builtin_huge_valf();

static_assert(kQueryGroup == kGroupRows);

struct AttentionParameters {
  const BatchState* state;
  const AttentionItem* items;
  void* out;           // [rows, A·D]
  int64_t out_stride;  // elements
  int32_t num_heads;
  float scale;        // times log2 e
  bool behind_short;  // see AttentionArguments
};

template <int D>
struct Tile {
  // Multiplying warpgroups: as many as registers allow.
  static constexpr int kGroups = hopper_query_tile(D) / kGroupRows;
  static constexpr int kThreads = (1 + kGroups) * kGroupThreads;
  static constexpr int kGroupRegisters = kGroups == 3 ? 160 : 232;  // a thread
  static constexpr int kOtherRegisters = kGroups == 3 ? 32 : 40;
  static constexpr int kBoxColumns = D < 64 ? D : 64;
  static constexpr int kRowBytes = 2 * kBoxColumns;
  static constexpr int kParts = D / kBoxColumns;
  static constexpr int kBoxBytes = kGroupRows * kRowBytes;
  static constexpr int kPartBytes = kKeyTile * kRowBytes;
  static constexpr int kBytes = kParts * kPartBytes;
  static constexpr int kQueryPartBytes = kGroups * kBoxBytes;
  static constexpr int kQueryBytes = kParts * kQueryPartBytes;
  static constexpr int kStages = D <= 64 ? 4 : 2;
  static constexpr Swizzle kSwizzle = kRowBytes == 128 ? Swizzle::k128 : Swizzle::k64;
};

// Where things are in shared memory. Tiles and barriers are counted over all items of the block:
// the n-th use of a ring is in stage n % stages, and its barriers' parity is n / stages % 2.
template <int D>
struct Shared {
  static constexpr uint32_t kStages = Tile<D>::kStages;
  static constexpr uint32_t kRings = 2 * Tile<D>::kQueryBytes;
  static constexpr uint32_t kBarriers = kRings + 2 * kStages * Tile<D>::kBytes;
  static constexpr uint32_t kBytes = kBarriers + (4 + 5 * kStages) * 8;
  static constexpr uint32_t kAlignment = 1024;

  uint32_t base;

  __device__ uint32_t queries(uint32_t n) const { return base + n % 2 * Tile<D>::kQueryBytes; }
  __device__ uint32_t keys(uint32_t n) const {
    return base + kRings + n % kStages * Tile<D>::kBytes;
  }
  __device__ uint32_t values(uint32_t n) const {
    return base + kRings + (kStages + n % kStages) * Tile<D>::kBytes;
  }
  // Full: bytes have arrived. Empty: all consumer warps have read them.
  __device__ uint32_t queries_full(uint32_t n) const { return barrier(n % 2); }
  __device__ uint32_t queries_empty(uint32_t n) const { return barrier(2 + n % 2); }
  __device__ uint32_t keys_full(uint32_t n) const { return ring(0, n); }
  __device__ uint32_t keys_empty(uint32_t n) const { return ring(1, n); }
  __device__ uint32_t values_full(uint32_t n) const { return ring(2, n); }
  __device__ uint32_t values_empty(uint32_t n) const { return ring(3, n); }
  // Values of a tile that is not full have arrived, but the rows behind the end are not cleared.
  __device__ uint32_t values_landed(uint32_t n) const { return ring(4, n); }

  static __device__ uint32_t queries_parity(uint32_t n) { return n / 2 % 2; }
  static __device__ uint32_t parity(uint32_t n) { return n / kStages % 2; }

 private:
  __device__ uint32_t barrier(uint32_t i) const { return base + kBarriers + i * 8; }
  __device__ uint32_t ring(uint32_t i, uint32_t n) const {
    return barrier(4 + i * kStages + n % kStages);
  }
};

template <int D>
__device__ void init_barriers(const Shared<D>& shared) {
  for (uint32_t n = 0; n < 2; ++n) {
    barrier_init(shared.queries_full(n), 1);
    barrier_init(shared.queries_empty(n), 4 * Tile<D>::kGroups);
  }
  for (uint32_t n = 0; n < Tile<D>::kStages; ++n) {
    barrier_init(shared.keys_full(n), 1);
    barrier_init(shared.keys_empty(n), 4 * Tile<D>::kGroups);
    barrier_init(shared.values_full(n), 1);
    barrier_init(shared.values_empty(n), 4 * Tile<D>::kGroups);
    barrier_init(shared.values_landed(n), 1);
  }
  barrier_init_fence();
}

// The queries of an item and one head. Key tile 0 holds the sequence's last `tail` keys,
// tile n > 0 the keys from 128·(n - 1) on.
struct Work {
  int first_row;  // of the sequence
  int length;
  int query_begin;
  int query_end;
  int head;

  __device__ int num_tiles() const { return (length + kKeyTile - 1) / kKeyTile; }
  __device__ int tail() const { return length - (num_tiles() - 1) * kKeyTile; }
  __device__ int tile_row(int n) const {
    return first_row + (n == 0 ? num_tiles() - 1 : n - 1) * kKeyTile;
  }
  // Warpgroups that have work.
  __device__ int num_groups() const {
    return (query_end - query_begin + kGroupRows - 1) / kGroupRows;
  }
};

// The work of this block: heads vary fastest, so that blocks running together share keys, values
// and lines of memory; every other round runs backwards, which evens out a sorted list.
class WorkList {
 public:
  __device__ explicit WorkList(const AttentionParameters& p)
      : items_(p.items), num_heads_(p.num_heads), total_(p.state->num_long_items * p.num_heads) {
    fetch();
  }
  // The next item is read one ahead: its latency is hidden.
  __device__ bool next(Work& work) {
    if (!found_) return false;
    work = ahead_;
    fetch();
    return true;
  }

 private:
  __device__ void fetch() {
    const int lane = round_ % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    const int index = round_++ * static_cast<int>(gridDim.x) + lane;
    found_ = index < total_;
    if (!found_) return;
    const AttentionItem& item = items_[index / num_heads_];
    ahead_ = {item.first_row, item.length, item.query_begin, item.query_end, index % num_heads_};
  }

  const AttentionItem* items_;
  int num_heads_;
  int total_;
  int round_ = 0;
  bool found_ = false;
  Work ahead_{};
};

// ---- The copying thread

template <int D, int part_bytes>
__device__ void load_tile(const CUtensorMap* map, uint32_t shared, uint32_t barrier, int column,
                          int row, int rows) {
  const int boxes = (rows + kGroupRows - 1) / kGroupRows;
  barrier_arrive_expect(barrier, boxes * Tile<D>::kParts * Tile<D>::kBoxBytes);
#pragma unroll 1
  for (int box = 0; box < boxes; ++box) {
#pragma unroll
    for (int part = 0; part < Tile<D>::kParts; ++part)
      load_box(shared + part * part_bytes + box * Tile<D>::kBoxBytes, map, barrier,
               column + part * Tile<D>::kBoxColumns, row + box * kGroupRows);
  }
}

template <int D>
__device__ void load_items(const CUtensorMap* map, const AttentionParameters& p,
                           const Shared<D>& shared) {
  const int width = p.num_heads * D;
  WorkList list(p);
  Work work;
  uint32_t tile = 0;
  for (uint32_t item = 0; list.next(work); ++item) {
    const int column = work.head * D;
    barrier_wait(shared.queries_empty(item), shared.queries_parity(item) ^ 1);
    load_tile<D, Tile<D>::kQueryPartBytes>(map, shared.queries(item), shared.queries_full(item),
                                           column, work.first_row + work.query_begin,
                                           work.query_end - work.query_begin);
    for (int n = 0; n < work.num_tiles(); ++n, ++tile) {
      const int row = work.tile_row(n);
      const int keys = n == 0 ? work.tail() : kKeyTile;
      barrier_wait(shared.keys_empty(tile), shared.parity(tile) ^ 1);
      load_tile<D, Tile<D>::kPartBytes>(map, shared.keys(tile), shared.keys_full(tile),
                                        width + column, row, keys);
      barrier_wait(shared.values_empty(tile), shared.parity(tile) ^ 1);
      load_tile<D, Tile<D>::kPartBytes>(
          map, shared.values(tile),
          keys == kKeyTile ? shared.values_full(tile) : shared.values_landed(tile),
          2 * width + column, row, keys);
    }
  }
}

// ---- The clearing warp

// Swizzling exchanges 16-byte chunks within a row only: rows from `begin` on are one run of bytes.
template <int D>
__device__ void clear_rows(uint32_t tile, int begin) {
  for (int part = 0; part < Tile<D>::kParts; ++part) {
    const uint32_t end = tile + (part + 1) * Tile<D>::kPartBytes;
    uint32_t chunk = tile + part * Tile<D>::kPartBytes + begin * Tile<D>::kRowBytes;
    for (chunk += threadIdx.x % 32 * 16; chunk < end; chunk += 32 * 16)
      asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(chunk), "r"(0) : "memory");
  }
}

template <int D>
__device__ void clear_tails(const AttentionParameters& p, const Shared<D>& shared) {
  WorkList list(p);
  Work work;
  uint32_t parities = 0;  // a bit for each stage: its barrier is used for some tiles only
  for (uint32_t tile = 0; list.next(work); tile += work.num_tiles()) {
    if (work.tail() == kKeyTile) continue;
    const uint32_t stage = tile % Tile<D>::kStages;
    barrier_wait(shared.values_landed(tile), parities >> stage & 1);
    parities ^= 1u << stage;
    clear_rows<D>(shared.values(tile), work.tail());
    shared_fence();
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.values_full(tile));
  }
}

// ---- The multiplying warpgroups

__device__ inline void release(uint32_t barrier) {
  if (threadIdx.x % 32 == 0) barrier_arrive(barrier);
}

// scores [64, 128] = queries [64, D] · keys [128, D]ᵀ, of which `queries` begins at this group's.
template <typename T, int D>
__device__ void multiply_keys(float (&scores)[64], uint32_t queries, uint32_t keys) {
  constexpr int kSteps = Tile<D>::kBoxColumns / 16;
  constexpr uint32_t kStride = 8 * Tile<D>::kRowBytes;
  const uint64_t a = matrix_descriptor(queries, Tile<D>::kSwizzle, kStride);
  const uint64_t b = matrix_descriptor(keys, Tile<D>::kSwizzle, kStride);
  wgmma_pin(scores);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    const int within = step % kSteps * 32;
    wgmma_shared<T, kKeyTile>(scores, a + (step / kSteps * Tile<D>::kQueryPartBytes + within) / 16,
                              b + (step / kSteps * Tile<D>::kPartBytes + within) / 16, step > 0);
  }
  wgmma_commit();
}

// output [64, D] = weights [64, 128] · values [128, D], added to what was there or not.
template <typename T, int D>
__device__ void multiply_values(float (&output)[D / 2], uint32_t (&weights)[8][4], uint32_t values,
                                bool add) {
  const uint64_t b =
      matrix_descriptor(values, Tile<D>::kSwizzle, 8 * Tile<D>::kRowBytes, Tile<D>::kPartBytes);
#pragma unroll
  for (int step = 0; step < 8; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(weights[step][i])::"memory");
  }
  wgmma_pin(output);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 8; ++step)
    wgmma_registers<T, D>(output, weights[step], b + step * Tile<D>::kRowBytes, step > 0 || add);
  wgmma_commit();
}

// Scores of columns behind the sequence's end become -infinity, whatever they were.
__device__ inline void mask_tail(float (&scores)[64], int tail) {
  const int column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int block = 0; block < 16; ++block) {
    if (8 * block + 8 <= tail) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (8 * block + column + i % 2 >= tail) scores[4 * block + i] = kNegativeInfinity;
  }
}

// What the softmax knows of a thread's two rows, 8 apart.
struct Rows {
  float shift[2];  // largest score so far, scaled
  float sum[2];    // of this thread's columns
};

// Scores become exp2(scores · scale - shift); `decay` is what earlier sums must be multiplied by.
// Columns from `keys` on, known to be masked, cost nothing in steps of 16.
template <bool first>
__device__ void softmax(float (&scores)[64], Rows& rows, float (&decay)[2], float scale, int keys) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float top[2] = {scores[2 * row], scores[2 * row + 1]};
#pragma unroll
    for (int block = 1; block < 16; ++block) {
      top[0] = fmaxf(top[0], scores[4 * block + 2 * row]);
      top[1] = fmaxf(top[1], scores[4 * block + 2 * row + 1]);
    }
    float largest = fmaxf(top[0], top[1]);
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2)) * scale;
    if (!first) largest = fmaxf(largest, rows.shift[row]);
    // Where all scores are -infinity so far, weights are 0, not -infinity + infinity.
    const float shift = largest == kNegativeInfinity ? 0 : largest;
    decay[row] = first ? 0 : exp2_fast(rows.shift[row] - shift);
    rows.shift[row] = largest;

    float sum[2] = {0, 0};
#pragma unroll
    for (int step = 0; step < 8; ++step) {
      const bool skip = first && 16 * step >= keys;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[8 * step + 4 * half + 2 * row + i];
          score = skip ? 0 : exp2_fast(fmaf(score, scale, -shift));
          sum[i] += score;
        }
      }
    }
    rows.sum[row] = first ? sum[0] + sum[1] : fmaf(rows.sum[row], decay[row], sum[0] + sum[1]);
  }
}

// The accumulators of two column blocks are, register for register, a fragment of the next product.
template <typename T>
__device__ void to_weights(uint32_t (&weights)[8][4], const float (&scores)[64]) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[step][i] = pack_pair<T>(scores[8 * step + 2 * i], scores[8 * step + 2 * i + 1]);
  }
}

// Among four neighbouring lanes: register i of lane t becomes register t of lane i.
__device__ inline void transpose_quad(uint32_t (&r)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      uint32_t& low = r[bit == 1 ? 2 * pair : pair];
      uint32_t& high = r[bit == 1 ? 2 * pair + 1 : pair + 2];
      const uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? low : high, bit);
      (upper ? low : high) = other;
    }
  }
}

// Divides by the sums and stores rows below `num_rows`, of this group's, in pieces of 16 bytes.
template <typename T, int D>
__device__ void store_rows(const float (&output)[D / 2], const Rows& rows, T* out, int64_t stride,
                           int num_rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float sum = rows.sum[row];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float inverse = 1 / sum;
    const int r = threadIdx.x / 32 % 4 * 16 + lane / 4 + 8 * row;
#pragma unroll
    for (int block = 0; block < D / 8; block += 4) {
      uint32_t piece[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int c = 4 * (block + i) + 2 * row;
        piece[i] = pack_pair<T>(output[c] * inverse, output[c + 1] * inverse);
      }
      transpose_quad(piece);
      if (r < num_rows)
        *reinterpret_cast<uint4*>(out + r * stride + 8 * (block + lane % 4)) =
            make_uint4(piece[0], piece[1], piece[2], piece[3]);
    }
  }
}

// A group of an item's queries for one warpgroup. `tile` counts key tiles before this item.
template <typename T, int D>
__device__ void attend(const AttentionParameters& p, const Shared<D>& shared, const Work& work,
                       uint32_t item, uint32_t tile, int part) {
  const uint32_t queries = shared.queries(item) + part * Tile<D>::kBoxBytes;
  const int num_tiles = work.num_tiles();
  const int tail = work.tail();
  float scores[64], output[D / 2], decay[2];
  uint32_t weights[8][4];
  Rows rows;

  barrier_wait(shared.keys_full(tile), shared.parity(tile));
  multiply_keys<T, D>(scores, queries, shared.keys(tile));
  wgmma_wait<0>();
  wgmma_pin(scores);
  release(shared.keys_empty(tile));
  if (tail < kKeyTile) mask_tail(scores, tail);
  softmax<true>(scores, rows, decay, p.scale, tail);
  to_weights<T>(weights, scores);
  barrier_wait(shared.values_full(tile), shared.parity(tile));

  const uint32_t first = tile;
  for (const uint32_t last = tile + num_tiles - 1; tile < last; ++tile) {
    barrier_wait(shared.keys_full(tile + 1), shared.parity(tile + 1));
    multiply_keys<T, D>(scores, queries, shared.keys(tile + 1));
    multiply_values<T, D>(output, weights, shared.values(tile), tile > first);
    wgmma_wait<1>();
    wgmma_pin(scores);
    release(shared.keys_empty(tile + 1));
    softmax<false>(scores, rows, decay, p.scale, kKeyTile);
    // Here, not where the values are used: without a branch between them, the compiler would put
    // most of the softmax off until after the wait for the other product, which it is to overlap.
    wgmma_pin(scores);
    barrier_wait(shared.values_full(tile + 1), shared.parity(tile + 1));
    wgmma_wait<0>();
    wgmma_pin(output);
    release(shared.values_empty(tile));
#pragma unroll
    for (int i = 0; i < D / 2; ++i) output[i] *= decay[i / 2 % 2];
    to_weights<T>(weights, scores);
  }
  release(shared.queries_empty(item));

  multiply_values<T, D>(output, weights, shared.values(tile), tile > first);
  wgmma_wait<0>();
  wgmma_pin(output);
  release(shared.values_empty(tile));

  const int query = work.query_begin + part * kGroupRows;
  T* out = static_cast<T*>(p.out) + (work.first_row + query) * p.out_stride + work.head * D;
  store_rows<T, D>(output, rows, out, p.out_stride, work.length - query);
}

// An item that has no work for this warpgroup: all its stages are given back unread.
template <int D>
__device__ void pass(const Shared<D>& shared, uint32_t item, uint32_t tile, int num_tiles) {
  release(shared.queries_empty(item));
#pragma unroll 1
  for (const uint32_t end = tile + num_tiles; tile < end; ++tile) {
    barrier_wait(shared.keys_full(tile), shared.parity(tile));
    release(shared.keys_empty(tile));
    barrier_wait(shared.values_full(tile), shared.parity(tile));
    release(shared.values_empty(tile));
  }
}

template <typename T, int D>
__device__ void attend_items(const AttentionParameters& p, const Shared<D>& shared, int group) {
  WorkList list(p);
  Work work;
  uint32_t tile = 0;
  constexpr int groups = Tile<D>::kGroups;
  int part = group;  // of the next item's groups of queries, the one that this warpgroup takes
  for (uint32_t item = 0; list.next(work); ++item) {
    const int parts = work.num_groups();
    barrier_wait(shared.queries_full(item), shared.queries_parity(item));
    if (part >= parts)
      pass<D>(shared, item, tile, work.num_tiles());
    else
      attend<T, D>(p, shared, work, item, tile, part);
    part = (part + groups - parts) % groups;
    tile += work.num_tiles();
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(Tile<D>::kThreads, 1)
    attention_long_hopper_kernel(const __grid_constant__ CUtensorMap qkv,
                                 const __grid_constant__ AttentionParameters parameters) {
  extern __shared__ unsigned char memory[];
  const Shared<D> shared{(shared_address(memory) + Shared<D>::kAlignment - 1) /
                         Shared<D>::kAlignment * Shared<D>::kAlignment};
  if (threadIdx.x == 0) {
    prefetch_map(&qkv);
    init_barriers(shared);
  }
  __syncthreads();
  if (parameters.behind_short) {
    let_next_start();
  } else {
    wait_for_previous();
  }

  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
  if (warp < 4) {
    lower_registers<Tile<D>::kOtherRegisters>();
    if (threadIdx.x == 0) {
      load_items<D>(&qkv, parameters, shared);
      if (parameters.behind_short) wait_for_end_of_previous();
    }
    if (warp == 1) clear_tails<D>(parameters, shared);
  } else {
    raise_registers<Tile<D>::kGroupRegisters>();
    attend_items<T, D>(parameters, shared, warp / 4 - 1);
  }
}

}  // namespace vlt::cuda::hopper
