// Attention for sequences of up to 128 tokens, float16 and bfloat16, sm_80 and later.
//
// out = softmax(q · kᵀ · scale + bias) · v at a cost of reading q, k and v once and writing out once:
// 8·A·D bytes a token, against 4·L·A·D operations, which at L = 128 are 64 a byte. Bandwidth binds
// (65,536 tokens, 12 heads of 64: 402 MB, 0.096 ms at 4.2 TB/s), so the design is about copies.
//
// A block of 8 warps takes units of 8 strips of 16 tokens: one head of a sequence of up to 128
// tokens, two heads of up to 64, four of up to 32, or eight of up to 16. A unit's heads are
// neighbours in the list (sequence, head), so they may belong to different sequences. A warp copies
// its strip of q, k and v, and once the block's copies are in, computes the output of its 16
// queries against the head's keys. All scores of a strip are in registers (64 a thread at most),
// so the softmax is exact and in one pass. Blocks and strips beyond the sequence are not touched.
//
// Shared memory: stages of [q | k | v] x 128 rows x D elements, 48 KB for D = 64. While one unit is
// computed the next is copied (or the next two), and where D <= 64 two blocks share a
// multiprocessor, so that copies are always in flight. A strip's output leaves through the rows of
// its queries.
#include "kernels/cuda/attention_mma.cuh"

namespace vlt::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
// Wide heads need more than the 128 registers a thread that two blocks leave.
template <int D>
constexpr int kBlocksPerMultiprocessor = D <= 64 ? 2 : 1;
constexpr int kMaxStages = 3;

// What a warp has to do in a unit. A length of 0: nothing.
struct alignas(16) Slot {
  int32_t first_row;  // of the sequence
  int32_t length;
  int32_t head;
  int32_t length_class;  // the head takes 2^length_class warps
};

// The units of a batch, longest class first, so that the last ones are the quickest.
class UnitList {
 public:
  // begin: the state's short_begin, in shared memory, since registers are few.
  __device__ UnitList(const int* begin, const AttentionItem* items, int num_heads)
      : begin_(begin), items_(items), num_heads_(num_heads) {}

  __device__ int count() const {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kNumShortClasses; ++i) sum += count(i);
    return sum;
  }

  // The part of `warp` in a unit; idle past the end of the list.
  __device__ Slot slot(int unit, int warp) const {
#pragma unroll
    for (int i = kNumShortClasses - 1; i >= 0; --i) {
      if (unit < count(i)) return slot_of_class(i, unit, warp);
      unit -= count(i);
    }
    return {0, 0, 0, 0};
  }

 private:
  __device__ int num_slots(int length_class) const {
    return (begin_[length_class + 1] - begin_[length_class]) * num_heads_;
  }
  __device__ int count(int length_class) const {
    const int per_unit = kWarps >> length_class;
    return (num_slots(length_class) + per_unit - 1) / per_unit;
  }
  __device__ Slot slot_of_class(int length_class, int unit, int warp) const {
    const int index = unit * (kWarps >> length_class) + (warp >> length_class);
    if (index >= num_slots(length_class)) return {0, 0, 0, 0};
    const AttentionItem& item = items_[begin_[length_class] + index / num_heads_];
    return {item.first_row, item.length, index % num_heads_, length_class};
  }

  const int* begin_;
  const AttentionItem* items_;
  int num_heads_;
};
static_assert(kWarps == 1 << (kNumShortClasses - 1) && kShortLength == 16 * kWarps);

// The warp's place among those of its head: its strip of 16 tokens.
__device__ int strip_of(const Slot& slot, int warp) {
  return warp & ((1 << slot.length_class) - 1);
}

// One unit's q, k and v: three tiles of 128 rows. Warp w has rows 16 w … 16 w + 15.
template <int D>
struct Stage {
  static constexpr int kTileBytes = kShortLength * HeadTile<D>::kRowBytes;
  static constexpr int kStripBytes = 16 * HeadTile<D>::kRowBytes;
  static constexpr int kBytes = 3 * kTileBytes;
};

template <typename T, int D>
__device__ void load_strip(const MmaAttention<T>& p, const Slot& slot, uint32_t stage) {
  const int warp = thread_index() / 32;
  const int lane = thread_index() % 32;
  const int begin = 16 * strip_of(slot, warp);
  if (begin >= slot.length) return;
  const T* source = p.qkv + (slot.first_row + begin) * p.qkv_stride + slot.head * p.head_size;
#pragma unroll
  for (int part = 0; part < 3; ++part)
    load_rows<T, D, true, 16, 32>(
        stage + part * Stage<D>::kTileBytes + warp * Stage<D>::kStripBytes,
        source + part * p.num_heads * p.head_size, p.qkv_stride, slot.length - begin, p.head_size,
        lane);
}

// kBlocks: blocks of 16 keys in the sequence. Exact, because tests for blocks that may be absent
// keep the compiler from ordering instructions across blocks and make it run out of registers.
template <typename T, int D, bool kBias, int kBlocks>
__device__ void compute_strip(const MmaAttention<T>& p, const Slot& slot, uint32_t stage) {
  const int warp = thread_index() / 32;
  const int lane = thread_index() % 32;
  const int strip = strip_of(slot, warp);
  const int head_offset = (warp - strip) * Stage<D>::kStripBytes;
  const uint32_t own_rows = stage + warp * Stage<D>::kStripBytes;

  float scores[1][2 * kBlocks][4];
  float reference[1][2] = {{-INFINITY, -INFINITY}};
  const Queries<D, 1, true> queries(own_rows, lane);
  const LanePointer<D> keys = key_pointer<D>(stage + Stage<D>::kTileBytes + head_offset, lane);
  const float* bias =
      kBias ? p.bias + slot.head * p.bias_stride + (lane % 4 * 2 - (16 * strip + lane / 4))
            : nullptr;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    if constexpr (kBias)
      start_from_bias(scores, bias, p.inverse_scale, block);
    else
      start_from_zero(scores, block);
    multiply_keys<T>(scores, queries, keys, block);
    if (block == kBlocks - 1) mask_keys(scores, block, slot.length, lane);
    raise_maximum(reference, scores, block);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) reference[0][i] = quad_maximum(reference[0][i]) * p.scale_log2;

  uint32_t packed[1][kBlocks][4];  // all at once: scores and output together are too many registers
#pragma unroll
  for (int block = 0; block < kBlocks; ++block)
    pack_probabilities<T>(packed, scores, reference, p.scale_log2, block);
  float output[1][D / 8 + 1][4] = {};
  const LanePointer<D> values =
      row_pointer<D>(stage + 2 * Stage<D>::kTileBytes + head_offset, lane);
#pragma unroll
  for (int block = 0; block < kBlocks; ++block)
    multiply_values<T, D>(output, packed, values, block);
  store_strip<T, D, true>(
      output[0], own_rows,
      p.out + (slot.first_row + 16 * strip) * p.out_stride + slot.head * p.head_size, p.out_stride,
      slot.length - 16 * strip, p.head_size);
}

// compute_strip() for the sequence's number of blocks, found by halving 1 … 8.
template <typename T, int D, bool kBias, int kFirst = 1, int kLast = kWarps>
__device__ void compute_slot(const MmaAttention<T>& p, const Slot& slot, uint32_t stage) {
  if constexpr (kFirst == kLast) {
    compute_strip<T, D, kBias, kFirst>(p, slot, stage);
  } else {
    constexpr int kMiddle = (kFirst + kLast) / 2;
    if (slot.length <= 16 * kMiddle)
      compute_slot<T, D, kBias, kFirst, kMiddle>(p, slot, stage);
    else
      compute_slot<T, D, kBias, kMiddle + 1, kLast>(p, slot, stage);
  }
}

// Blocks a multiprocessor to leave registers for. ptxas for sm_100 and later spills one where a bias
// comes to heads of 64; grids do not depend on it.
template <int D, bool kBias>
constexpr int min_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  if (kBias && D == 64) return 1;
#endif
  return kBlocksPerMultiprocessor<D>;
}

template <typename T, int D, bool kBias>
__global__ void __launch_bounds__(kThreads, min_blocks<D, kBias>())
    attention_short_kernel(const MmaAttention<T> p, int num_stages) {
  extern __shared__ __align__(128) char storage[];
  __shared__ Slot slots[kMaxStages][kWarps];  // of the units in the stages
  __shared__ int short_begin[kNumShortClasses + 1];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const uint32_t stages = shared_address(storage);
  if (!p.plan_is_settled) wait_for_previous();

  if (threadIdx.x <= kNumShortClasses) short_begin[threadIdx.x] = p.state->short_begin[threadIdx.x];
  __syncthreads();
  const UnitList units(short_begin, p.items, p.num_heads);
  // Found one unit early: its latency must not delay the copies.
  Slot ahead = units.slot(blockIdx.x, warp);
  if (p.plan_is_settled) wait_for_previous();
  const auto load_ahead = [&](int stage, int following) {
    load_strip<T, D>(p, ahead, stages + stage * Stage<D>::kBytes);
    commit_copies();
    if (lane == 0) slots[stage][warp] = ahead;
    ahead = units.slot(following, warp);
  };

  for (int stage = 0; stage < num_stages - 1; ++stage)
    load_ahead(stage, blockIdx.x + (stage + 1) * gridDim.x);
  int full = 0;
  for (int unit = blockIdx.x; unit < units.count(); unit += gridDim.x) {
    const int following = unit + num_stages * gridDim.x;
    if (num_stages == 1) {
      __syncthreads();  // the unit before has been read
      load_ahead(0, following);
    }
    if (num_stages == kMaxStages)
      wait_copies<kMaxStages - 2>();
    else
      wait_copies<0>();
    __syncthreads();  // this unit is in, and the one before has been read
    if (num_stages > 1) load_ahead(full == 0 ? num_stages - 1 : full - 1, following);
    const Slot& slot = slots[full][warp];  // stays in shared memory: registers are few
    if (16 * strip_of(slot, warp) < slot.length)
      compute_slot<T, D, kBias>(p, slot, stages + full * Stage<D>::kBytes);
    full = full + 1 == num_stages ? 0 : full + 1;
  }
  wait_copies<0>();
}

// As many as leave room for `blocks` blocks a multiprocessor; 0: not even one stage fits.
int choose_num_stages(int stage_bytes, int blocks, const DeviceTraits& device) {
  constexpr int kReserved = 1024;    // a block, by the driver
  constexpr int kStaticBytes = 512;  // slots and class bounds
  const int bytes = (device.max_shared_bytes + kReserved) / blocks - kReserved - kStaticBytes;
  const int num_stages = std::min(bytes / stage_bytes, kMaxStages);
  return num_stages == 0 && blocks > 1 ? choose_num_stages(stage_bytes, 1, device) : num_stages;
}

template <typename T, int D, bool kBias>
void launch_size(const AttentionArguments& arguments, const DeviceTraits& device,
                 cudaStream_t stream) {
  const int num_stages = choose_num_stages(Stage<D>::kBytes, kBlocksPerMultiprocessor<D>, device);
  if (num_stages == 0) return attention_short_in_tiles(arguments, device, stream);
  constexpr auto kernel = attention_short_kernel<T, D, kBias>;
  LaunchShape shape;
  shape.shared_bytes = static_cast<size_t>(num_stages) * Stage<D>::kBytes;
  const int64_t resident = int64_t{kBlocksPerMultiprocessor<D>} * device.num_multiprocessors;
  const int64_t bound = int64_t{arguments.max_sequences} * arguments.num_heads;
  shape.grid = dim3(static_cast<unsigned>(std::min(resident, bound)));
  shape.block = dim3(kThreads);
  allow_shared_bytes(kernel, shape.shared_bytes);
  launch(kernel, shape, device.overlap, stream, mma_parameters<T>(arguments, arguments.short_items),
         num_stages);
}

template <typename T>
void launch_short(const AttentionArguments& arguments, const DeviceTraits& device,
                  cudaStream_t stream) {
  if (arguments.relative.bias) {  // rare: fewer kernels
    with_head_size<32, 64, 128>(arguments.head_size, [&](auto size) {
      launch_size<T, size, true>(arguments, device, stream);
    });
  } else {
    with_head_size<16, 32, 48, 64, 80, 96, 128>(arguments.head_size, [&](auto size) {
      launch_size<T, size, false>(arguments, device, stream);
    });
  }
}

}  // namespace

void attention_short_mma(const AttentionArguments& arguments, const DeviceTraits& device,
                         cudaStream_t stream) {
  if (arguments.max_sequences == 0) return;
  if (arguments.head_size > 128 || !heads_are_aligned(arguments))
    return attention_short_in_tiles(arguments, device, stream);
  if (arguments.dtype == DType::kFloat16)
    launch_short<half>(arguments, device, stream);
  else
    launch_short<bfloat16>(arguments, device, stream);
}

}  // namespace vlt::cuda
