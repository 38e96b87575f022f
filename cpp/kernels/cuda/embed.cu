// Embeddings and their norm: out = norm(word[id] + token_type[type] + position[index + offset]).
//
// Rows lie in a warp's registers as in layernorm.cu. A warp owns a tile of up to 32 consecutive rows
// and each lane finds out about one of them: its id, its type, and its index in its sequence. Then
// the warp goes through the tile, a row or two at a time, and asks for the next word rows before it
// works on those it has. So the chain of dependent loads (ids, then word rows; starts, then position
// rows) is waited for once a tile and not once a row.
//
// T · H elements are written and as many gathered from the word table, of which rows that were met
// before may come from the L2 cache. They pass by the L1 cache (256 KB), so that position rows stay
// in it: 128 of 384 float16 are 98 KB. From the L2 cache alone, whose 5.5 TB/s are little more than
// what memory gives, they would cost as much time as the word rows.
//
// Weights and biases come from shared memory, see norm_constants.cuh. Registers are for word and
// position rows on their way: with constants there, a multiprocessor would hold 3 blocks for rows of
// 768 float16 instead of 5. Measured on an H100, µs for rows of 384 / 768 / 1024 float16:
//
//   rows     L1 cache             shared memory        registers            a copy at 3.00 TB/s
//   4,096    5.9 / 9.8 / 10.6     5.2 / 8.0 / 9.2
//   65,536   36.5 / 72.5 / 106.3  35.0 / 71.1 / 104.5  42.1 / 84.2 / 103.0  33.6 / 67.1 / 89.5
#include "kernels/cuda/norm_constants.cuh"

namespace vlt::cuda {
namespace {

constexpr int kTileRows = 32;  // at most: a lane each

// ---- Where a row lies in its sequence. Starts ascend from 0 (plan_batch() saw to it), so those that
// are not behind a row come first; starts[num_sequences] is behind all rows.

struct Sequence {
  int number;
  int start;
};

// The sequence of a row, found by the whole warp in a 32-way search: two dependent loads up to 1024
// sequences, three up to 32,768. Of equal starts (empty sequences) it is the last one.
__device__ inline Sequence find_sequence(const int32_t* starts, int num_sequences, int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Sequence low{0, 0};  // the answer is one of `span` sequences from here on
  int span = num_sequences;
  do {
    const int step = (span + 31) / 32;
    const int64_t probe = low.number + int64_t{lane} * step;
    const int value = __ldg(starts + min(probe, int64_t{num_sequences}));
    const int found = __popc(__ballot_sync(0xffffffffu, value <= row)) - 1;
    low.number += found * step;
    low.start = __shfl_sync(0xffffffffu, value, found);
    span = step;
  } while (span > 1);
  return low;
}

// The index in its sequence of each lane's row, which is `first` + own. Bit b of `begins` says that
// a sequence begins at row first + b: every lane looks at one start, and at most 31 sequences that
// are not empty begin behind the first of 32 rows.
__device__ inline int index_in_sequence(const int32_t* starts, int num_sequences, int first,
                                        int own) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Sequence sequence = find_sequence(starts, num_sequences, first);
  unsigned begins = 0;
  int next = sequence.number + 1, last_offset = 0;
  do {
    const int offset = __ldg(starts + min(int64_t{next} + lane, int64_t{num_sequences})) - first;
    begins |= __reduce_or_sync(0xffffffffu, offset < kTileRows ? 1u << offset : 0u);
    last_offset = __shfl_sync(0xffffffffu, offset, 31);
    next += 32;
  } while (next <= num_sequences && last_offset < kTileRows);
  const unsigned not_behind = begins & (0xffffffffu >> (31 - own));
  return not_behind == 0 ? first + own - sequence.start
                         : own - (31 - __clz(static_cast<int>(not_behind)));
}

// ---- Ids and types

struct TokenRules {
  const int32_t* ids;
  const int32_t* types;  // or null
  int32_t vocab_size;
  int32_t num_types;

  __device__ TokenRules(const EmbedArguments& args)
      : ids(args.header->token_ids),
        types(args.header->token_types),
        vocab_size(args.vocab_size),
        num_types(max(args.num_token_types, 1)) {}
  __device__ int32_t id(int row) const { return __ldg(ids + row); }
  __device__ int32_t type(int row) const { return types ? __ldg(types + row) : 0; }
  __device__ bool valid_id(int32_t id) const { return id >= 0 && id < vocab_size; }
  __device__ bool valid_type(int32_t type) const { return type >= 0 && type < num_types; }
};

// Reports the first token of the batch that breaks a rule. Every warp that meets a bad token looks
// for the first one, so the report does not depend on which warp comes first.
__device__ __noinline__ void report_first_token(TokenRules rules, int num_tokens,
                                                InputError* error) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int known = *static_cast<volatile const int32_t*>(&error->kind);
  if (__any_sync(0xffffffffu, known != InputError::kNone)) return;
  for (int64_t base = 0; base < num_tokens; base += 32) {
    const int row = static_cast<int>(min(base + lane, int64_t{num_tokens} - 1));
    const int32_t id = rules.id(row), type = rules.type(row);
    const bool bad_id = !rules.valid_id(id);
    const unsigned bad = __ballot_sync(0xffffffffu, bad_id || !rules.valid_type(type));
    if (bad == 0) continue;
    if (lane == __ffs(static_cast<int>(bad)) - 1)
      report(error, bad_id ? InputError::kTokenId : InputError::kTokenType, row,
             bad_id ? id : type);
    return;
  }
}

// What a lane knows of its row of the tile.
struct Token {
  int32_t id;
  int32_t type;
  int32_t position;

  __device__ Token of_lane(int lane) const {
    return {__shfl_sync(0xffffffffu, id, lane), __shfl_sync(0xffffffffu, type, lane),
            __shfl_sync(0xffffffffu, position, lane)};
  }
};

template <typename T, typename Shape>
__device__ inline void add_row(const T* row, int num_chunks,
                               float (&x)[Shape::kChunks][Shape::kElements]) {
#pragma unroll
  for (int c = 0; c < Shape::kChunks; ++c) {
    if (!Shape::exists(c, num_chunks)) continue;
    float term[Shape::kElements];
    unpack<T>(__ldg(reinterpret_cast<const uint4*>(row + Shape::column(c))), term);
#pragma unroll
    for (int e = 0; e < Shape::kElements; ++e) x[c][e] += term[e];
  }
}

// The rows of a tile: as many for every warp, so that all end together, however many tiles a warp
// has to take; a multiple of what a warp takes at once.
template <typename Shape>
__device__ inline int tile_rows(int num_rows) {
  const int warps = warps_in_grid();
  const int64_t turns = (int64_t{num_rows} + int64_t{warps} * kTileRows - 1) / (warps * kTileRows);
  const int64_t tiles = max(turns, int64_t{1}) * warps;
  const int rows = static_cast<int>((num_rows + tiles - 1) / tiles);
  return (rows + Shape::kWarpRows - 1) / Shape::kWarpRows * Shape::kWarpRows;
}

// Blocks of a multiprocessor, where a word row and a position row are on their way. With more than 5,
// which only narrow rows would get, ptxas spills for sm_80.
template <typename Shape>
constexpr int kMostBlocks = std::min(Shape::blocks(2 * Shape::kLoadRegisters), 5);

// For sm_100 and later it spills with as many where there are few; grids do not depend on it.
template <typename Shape>
constexpr int min_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  if (kMostBlocks < Shape >> 1) return kMostBlocks<Shape> - 1;
#endif
  return kMostBlocks<Shape>;
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(kRowThreads, min_blocks<Shape>())
    embed_layernorm_kernel(const __grid_constant__ EmbedArguments args) {
  static_assert(Shape::kRows == 1 && kTileRows % Shape::kWarpRows == 0);
  __shared__ typename SharedConstants<Shape>::Storage storage;
  const SharedConstants<Shape> constants(args.norm, args.cols, storage);
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_rows = args.state->num_tokens, num_sequences = args.state->num_sequences;
  const int32_t* starts = args.header->sequence_starts;
  const TokenRules rules(args);
  const int num_chunks = args.cols / Shape::kElements;
  const auto row_of = [&](const void* table, int32_t row) {
    return static_cast<const T*>(table) + int64_t{row} * args.cols;
  };
  const int rows = tile_rows<Shape>(num_rows);
  for (int64_t tile = int64_t{warp_in_grid()} * rows; tile < num_rows;
       tile += int64_t{warps_in_grid()} * rows) {
    const int first = static_cast<int>(tile), end = min(rows, num_rows - first);
    const int own = min(lane, end - 1);
    Token token{rules.id(first + own), rules.type(first + own), 0};
    const bool valid_id = rules.valid_id(token.id), valid_type = rules.valid_type(token.type);
    if (!__all_sync(0xffffffffu, valid_id && valid_type))
      report_first_token(rules, num_rows, args.error);
    if (!valid_id) token.id = 0;
    if (!valid_type) token.type = 0;

    Chunks<Shape> words;
    const auto load_words = [&](int begin) {
      const auto word_of = [&](int i) {
        return row_of(args.word, __shfl_sync(0xffffffffu, token.id, begin + Shape::row_offset(i)));
      };
      load_rows<T, Shape>(num_chunks, word_of, words);
    };
    load_words(0);
    token.position = index_in_sequence(starts, num_sequences, first, own) + args.position_offset;
    for (int begin = 0; begin < end; begin += Shape::kWarpRows) {
      Rows<Shape> x;
      unpack_rows<T, Shape>(words, x);
      if (begin + Shape::kWarpRows < end) load_words(begin + Shape::kWarpRows);
      const int row = begin + Shape::row_offset(0);
      const Token of_row = token.of_lane(row);
      if (args.position)
        add_row<T, Shape>(row_of(args.position, of_row.position), num_chunks, x[0]);
      if (args.token_type)
        add_row<T, Shape>(row_of(args.token_type, of_row.type), num_chunks, x[0]);
      store_norm<Shape>(x, constants, args.cols, args.norm.epsilon,
                        [&](int, int column, const float(&y)[Shape::kElements]) {
                          T* to = static_cast<T*>(args.out) + (tile + row) * args.out_stride;
                          if (row < end) store_chunk(to + column, pack<T>(y), true);
                        });
    }
  }
}

// Tables whose rows are not made of chunks, or wider than registers: a warp a row.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) embed_layernorm_any_kernel(EmbedArguments args) {
  wait_for_previous();
  const int num_rows = args.state->num_tokens;
  const TokenRules rules(args);
  for (int64_t next = warp_in_grid(); next < num_rows; next += warps_in_grid()) {
    const int row = static_cast<int>(next);
    const int32_t id = rules.id(row), type = rules.type(row);
    const bool valid_id = rules.valid_id(id), valid_type = rules.valid_type(type);
    if (!valid_id || !valid_type) report_first_token(rules, num_rows, args.error);
    const Sequence sequence =
        find_sequence(args.header->sequence_starts, args.state->num_sequences, row);
    const int64_t index = int64_t{row} - sequence.start + args.position_offset;
    const T* word = static_cast<const T*>(args.word) + int64_t{valid_id ? id : 0} * args.cols;
    const T* position =
        args.position ? static_cast<const T*>(args.position) + index * args.cols : nullptr;
    const T* token_type = args.token_type ? static_cast<const T*>(args.token_type) +
                                                int64_t{valid_type ? type : 0} * args.cols
                                          : nullptr;
    T* to = static_cast<T*>(args.out) + row * args.out_stride;
    norm_any_row(
        args.norm, args.cols,
        [=](int j) {
          const float sum = to_float(word[j]) + (position ? to_float(position[j]) : 0.0f);
          return token_type ? sum + to_float(token_type[j]) : sum;
        },
        [=](int j, float y) { to[j] = from_float<T>(y); });
  }
}

template <typename T>
bool is_chunked(const EmbedArguments& args) {
  return made_of_chunks<T>(args.word, args.cols, args.cols) && is_aligned(args.position) &&
         is_aligned(args.token_type) && made_of_chunks<T>(args.out, args.out_stride, args.cols) &&
         is_aligned(args.norm.weight) && is_aligned(args.norm.bias);
}

template <typename T>
void launch_embed_layernorm(const EmbedArguments& args, const DeviceTraits& device,
                            cudaStream_t stream) {
  const auto use = [&](auto shape) {
    using Shape = decltype(shape);
    launch(embed_layernorm_kernel<T, Shape>,
           row_launch(args.max_rows, Shape::kWarpRows, kMostBlocks<Shape>, device), device.overlap,
           stream, args);
  };
  if (is_chunked<T>(args) && with_row_shape<T>(args.cols / kChunkElements<T>, use)) return;
  launch(embed_layernorm_any_kernel<T>, row_launch(args.max_rows, 1, kAnyRowBlocks, device),
         device.overlap, stream, args);
}

}  // namespace

void embed_layernorm(const EmbedArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype,
            [&](auto element) { launch_embed_layernorm<decltype(element)>(args, device, stream); });
}

}  // namespace vlt::cuda
