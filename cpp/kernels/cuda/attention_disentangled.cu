// Disentangled attention (DeBERTa), float16 and bfloat16, sm_80 and later, sequences of any length:
//   score(i, j) = scale · (q_i · k_j + q_i · key_rows[r] + query_rows[r] · k_j),  r = row[j - i]
// and then, as everywhere, out = softmax(score) · v with the online softmax.
//
// A block takes 64 queries of a sequence and one head; a warp has 16 of them. Keys come in tiles of
// 32. A tile's distances span 95 values, and rows ascend by at most one from distance to distance:
// so the rows that it needs follow each other, and no more than 95 of them. They stay in rings of
// 128 rows in shared memory, where the next tile's new ones, 32 at most, join while this one is
// computed.
//
// Both terms are products of matrices, whose elements are then gathered by distance:
//   queries · key_rowsᵀ  [16, 48], by each warp of its own queries: 47 distances to a tile's keys
//   keys · query_rowsᵀ   [32, 80], by the block: 79 distances from 16 keys to the 64 queries
// in float32, through shared memory, so that they lose nothing to a rounding. Operations bind: as
// many as for 4.75 products q · kᵀ, where attention alone has those for two.
//
// Shared memory: [q: 64 rows][k | v, two stages][two rings][products], 83 KB for D = 64.
#include "kernels/cuda/attention_mma.cuh"

namespace vlt::cuda {
namespace {

constexpr int kWarps = kMmaQueryTile / 16;
constexpr int kThreads = 32 * kWarps;
constexpr int kKeys = 32;  // a tile
constexpr int kRing = 128;
static_assert(kMmaQueryTile + 2 * kKeys - 1 < kRing);  // distances of a tile and of the next one
static_assert(kMmaQueryTile <= kDistancePadding && kKeys <= kDistancePadding);

constexpr int kQueryBlocks = 3;  // of 16 rows: 16 + 32 - 1 distances
constexpr int kKeyBlocks = 5;    // 16 + 64 - 1
// Floats from row to row of the products: eight rows then lie in different banks.
constexpr int kQueryStride = 16 * kQueryBlocks + 8;
constexpr int kKeyStride = 16 * kKeyBlocks + 8;

template <int D>
struct Shape {
  static constexpr int kRowBytes = HeadTile<D>::kRowBytes;
  static constexpr int kTileBytes = kKeys * kRowBytes;
  static constexpr int kRingBytes = kRing * kRowBytes;
  static constexpr int kStages = kMmaQueryTile * kRowBytes;
  static constexpr int kRings = kStages + 4 * kTileBytes;
  static constexpr int kQueryProducts = kRings + 2 * kRingBytes;
  static constexpr int kKeyProducts = kQueryProducts + kMmaQueryTile * kQueryStride * 4;
  static constexpr int kBytes = kKeyProducts + kKeys * kKeyStride * 4;
};

template <typename T>
struct DisentangledAttention {
  MmaAttention<T> plain;
  const int32_t* row;   // of distance 0
  const T* key_rows;    // [A, R, row_stride], or null
  const T* query_rows;  // likewise
  int32_t num_rows;
  int32_t row_stride;
};

// The rows of one head, and the rings that hold those of a tile.
template <typename T, int D>
struct Rows {
  const int32_t* row;
  const T* tables[2];  // for keys, for queries; or null
  int32_t row_stride;
  uint32_t rings;

  __device__ Rows(const DisentangledAttention<T>& p, int head, uint32_t shared)
      : row(p.row), row_stride(p.row_stride), rings(shared + Shape<D>::kRings) {
    const int64_t first = int64_t{head} * p.num_rows * p.row_stride;
    tables[0] = p.key_rows ? p.key_rows + first : nullptr;
    tables[1] = p.query_rows ? p.query_rows + first : nullptr;
  }

  __device__ int of(int distance) const { return __ldg(row + distance); }
  __device__ uint32_t ring(int table) const { return rings + table * Shape<D>::kRingBytes; }

  // Starts copies of rows first … last into the rings.
  __device__ void load(int first, int last, int thread) const {
    constexpr int kChunks = HeadTile<D>::kChunks;
    const int count = (last - first + 1) * kChunks;
#pragma unroll
    for (int table = 0; table < 2; ++table) {
      if (!tables[table]) continue;
      for (int i = thread; i < count; i += kThreads) {
        const int r = first + i / kChunks, chunk = i % kChunks;
        const bool valid = 8 * chunk < row_stride;
        copy16_async(ring(table) + HeadTile<D>::offset(r % kRing, chunk),
                     tables[table] + (valid ? r * row_stride + 8 * chunk : 0), valid);
      }
    }
  }
};

// Products of 16 rows, given by pairs of chunks, with the 16 rows of a ring that begin at `first`,
// none of them beyond `last`, as the columns from `column` on of `products`.
template <typename T, int D, typename Fragment>
__device__ void multiply_rows(const Fragment& fragment, uint32_t ring, int first, int last,
                              float* products, int stride, int column, int lane) {
  const int r = min(first + lane % 8 + lane / 16 * 8, last);
  const LanePointer<D> rows(ring, r % kRing, lane / 8 % 2);
  float sums[2][4] = {};
#pragma unroll
  for (int pair = 0; pair < D / 16; ++pair) {
    uint32_t a[4], b[4];
    fragment(a, pair);
    load_matrices(b, rows.at(0, pair));
    mma_16x8x16<T>(sums[0], a, b[0], b[1]);
    mma_16x8x16<T>(sums[1], a, b[2], b[3]);
  }
  float* to = products + lane / 4 * stride + column + lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    *reinterpret_cast<float2*>(to + 8 * n) = {sums[n][0], sums[n][1]};
    *reinterpret_cast<float2*>(to + 8 * n + 8 * stride) = {sums[n][2], sums[n][3]};
  }
}

// Where a tile's products lie.
struct Products {
  float* of_queries;  // [16, kQueryStride], this warp's
  float* of_keys;     // [32, kKeyStride]
};

// All products of a tile whose first key is `distance` behind the unit's first query, whose rows end
// at `last`. Half of the warps take the first 16 keys, the others the rest.
template <typename T, int D>
__device__ void multiply_all_rows(const Rows<T, D>& rows, const Queries<D, 1, true>& queries,
                                  uint32_t keys, const Products& products, int distance, int last,
                                  bool active, int warp, int lane) {
  if (rows.tables[0] && active) {
    const int first = rows.of(distance - 16 * warp - 15);
    const auto fragment = [&](uint32_t(&a)[4], int pair) { queries.fragment(a, 0, pair); };
#pragma unroll
    for (int block = 0; block < kQueryBlocks; ++block)
      multiply_rows<T, D>(fragment, rows.ring(0), first + 16 * block, last, products.of_queries,
                          kQueryStride, 16 * block, lane);
  }
  if (rows.tables[1]) {
    const int strip = warp % 2;
    const int first = rows.of(distance + 16 * strip - (kMmaQueryTile - 1));
    const LanePointer<D> own = row_pointer<D>(keys + strip * 16 * Shape<D>::kRowBytes, lane);
    const auto fragment = [&](uint32_t(&a)[4], int pair) { load_matrices(a, own.at(0, pair)); };
#pragma unroll
    for (int block = warp / 2; block < kKeyBlocks; block += kWarps / 2)
      multiply_rows<T, D>(fragment, rows.ring(1), first + 16 * block, last,
                          products.of_keys + 16 * strip * kKeyStride, kKeyStride, 16 * block, lane);
  }
}

// Adds to each score what the products say of its distance.
template <typename T, int D>
__device__ void add_products(float (&scores)[1][kKeys / 8][4], const Rows<T, D>& rows,
                             const Products& products, int distance, int warp, int lane) {
  // From this lane's first query to its first key. Both 8 further on are as far apart.
  const int own = distance - 16 * warp + lane % 4 * 2 - lane / 4;
  int row[kKeys / 8 + 1][2];
#pragma unroll
  for (int i = 0; i < 2 * (kKeys / 8 + 1); ++i)
    row[i / 2][i % 2] = rows.of(own + 8 * (i / 2 - 1) + i % 2);
  const int first_of_queries = rows.of(distance - 16 * warp - 15);
  const int first_of_keys[2] = {rows.of(distance - (kMmaQueryTile - 1)),
                                rows.of(distance + 16 - (kMmaQueryTile - 1))};
  const float* of_queries = products.of_queries + lane / 4 * kQueryStride;
  const float* of_keys = products.of_keys + lane % 4 * 2 * kKeyStride;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = row[n - i / 2 + 1][i % 2];
      float sum = 0;
      if (rows.tables[0]) sum += of_queries[i / 2 * 8 * kQueryStride + r - first_of_queries];
      if (rows.tables[1]) sum += of_keys[(8 * n + i % 2) * kKeyStride + r - first_of_keys[n / 2]];
      scores[0][n][i] += sum;
    }
}

template <typename T, int D>
__device__ void attend(Running<D, 1>& running, const Queries<D, 1, true>& queries, uint32_t tile,
                       const Rows<T, D>& rows, const Products& products, int distance, int num_keys,
                       float scale_log2, int warp, int lane) {
  const LanePointer<D> keys = key_pointer<D>(tile, lane);
  const LanePointer<D> values = row_pointer<D>(tile + Shape<D>::kTileBytes, lane);
  float scores[1][kKeys / 8][4];
  float tile_maximum[1][2] = {{-INFINITY, -INFINITY}};
  float reference[1][2];
#pragma unroll
  for (int block = 0; block < kKeys / 16; ++block) {
    start_from_zero(scores, block);
    multiply_keys<T>(scores, queries, keys, block);
  }
  add_products(scores, rows, products, distance, warp, lane);
#pragma unroll
  for (int block = 0; block < kKeys / 16; ++block) {
    mask_keys(scores, block, num_keys, lane);
    raise_maximum(tile_maximum, scores, block);
  }
  rescale(running, tile_maximum, reference, scale_log2);
  uint32_t packed[1][kKeys / 16][4];
#pragma unroll
  for (int block = 0; block < kKeys / 16; ++block) {
    pack_probabilities<T>(packed, scores, reference, scale_log2, block);
    multiply_values<T, D>(running.output, packed, values, block);
  }
}

template <typename T, int D>
__device__ void load_tile(const MmaAttention<T>& p, const T* keys, int length, int index,
                          uint32_t shared, int thread) {
  const int begin = index * kKeys;
  const uint32_t tile = shared + Shape<D>::kStages + index % 2 * 2 * Shape<D>::kTileBytes;
#pragma unroll
  for (int part = 0; part < 2; ++part)
    load_rows<T, D, true, kKeys, kThreads>(
        tile + part * Shape<D>::kTileBytes,
        keys + begin * p.qkv_stride + part * p.num_heads * p.head_size, p.qkv_stride,
        length - begin, p.head_size, thread);
}

template <typename T, int D>
__device__ void compute_unit(const DisentangledAttention<T>& parameters, const Unit& unit,
                             char* storage) {
  using S = Shape<D>;
  const MmaAttention<T>& p = parameters.plain;
  const int thread = static_cast<int>(thread_index());
  const int warp = thread / 32, lane = thread % 32;
  const uint32_t shared = shared_address(storage);
  const uint32_t warp_rows = shared + 16 * warp * S::kRowBytes;
  const int num_queries = unit.length - unit.query_begin;
  const bool active = 16 * warp < num_queries;
  const int num_tiles = (unit.length + kKeys - 1) / kKeys;
  const T* queries_from = p.qkv + unit.first_row * p.qkv_stride + unit.head * p.head_size;
  const T* keys_from = queries_from + p.num_heads * p.head_size;
  const Rows<T, D> rows(parameters, unit.head, shared);
  const Products products = {
      reinterpret_cast<float*>(storage + S::kQueryProducts) + 16 * warp * kQueryStride,
      reinterpret_cast<float*>(storage + S::kKeyProducts)};

  __syncthreads();  // the unit before has been read
  int distance = -unit.query_begin;
  int last = rows.of(distance + kKeys - 1);
  load_rows<T, D, true, kMmaQueryTile, kThreads>(shared,
                                                 queries_from + unit.query_begin * p.qkv_stride,
                                                 p.qkv_stride, num_queries, p.head_size, thread);
  load_tile<T, D>(p, keys_from, unit.length, 0, shared, thread);
  rows.load(rows.of(distance - (kMmaQueryTile - 1)), last, thread);
  commit_copies();
  wait_copies<0>();
  __syncthreads();  // the queries are in
  const Queries<D, 1, true> queries(warp_rows, lane);

  Running<D, 1> running = nothing_yet<D, 1>();
  for (int tile = 0; tile < num_tiles; ++tile, distance += kKeys) {
    wait_copies<0>();
    __syncthreads();  // this tile is in, and the one before has been read
    const uint32_t stage = shared + S::kStages + tile % 2 * 2 * S::kTileBytes;
    const int last_of_tile = last;
    if (tile + 1 < num_tiles) {
      load_tile<T, D>(p, keys_from, unit.length, tile + 1, shared, thread);
      last = rows.of(distance + 2 * kKeys - 1);
      rows.load(last_of_tile + 1, last, thread);
      commit_copies();
    }
    multiply_all_rows(rows, queries, stage, products, distance, last_of_tile, active, warp, lane);
    __syncthreads();  // the products are there
    if (active)
      attend(running, queries, stage, rows, products, distance, unit.length - tile * kKeys,
             p.scale_log2, warp, lane);
  }
  store_strip<T, D, true>(running.output[0], warp_rows,
                          p.out + (unit.first_row + unit.query_begin + 16 * warp) * p.out_stride +
                              unit.head * p.head_size,
                          p.out_stride, num_queries - 16 * warp, p.head_size);
}

template <typename T, int D>
__global__ void __launch_bounds__(kThreads, D <= 64 ? 2 : 1)
    attention_disentangled_kernel(const __grid_constant__ DisentangledAttention<T> p,
                                  bool short_list) {
  extern __shared__ __align__(128) char storage[];
  wait_for_previous();
  for_each_unit(p.plain, short_list,
                [&](const Unit& unit) { compute_unit<T, D>(p, unit, storage); });
}

template <typename T, int D>
void launch_list(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  const RelativeWeights& relative = arguments.relative;
  const DisentangledAttention<T> parameters = {
      mma_parameters<T>(arguments, short_list ? arguments.short_items : arguments.long_items),
      relative.row + distance_zero(relative.num_distances),
      static_cast<const T*>(relative.key_rows),
      static_cast<const T*>(relative.query_rows),
      static_cast<int32_t>(relative.num_rows),
      static_cast<int32_t>(relative_row_stride(arguments.head_size))};
  constexpr auto kernel = attention_disentangled_kernel<T, D>;
  launch(kernel, unit_launch(kernel, kThreads, Shape<D>::kBytes, arguments, short_list, device),
         device.overlap, stream, parameters, short_list);
}

template <typename Use>
void with_disentangled_size(int head_size, const Use& use) {
  with_head_size<32, 64, 128>(head_size, use);
}

template <typename T>
void launch_type(const AttentionArguments& arguments, const DeviceTraits& device,
                 cudaStream_t stream) {
  with_disentangled_size(arguments.head_size, [&](auto size) {
    launch_list<T, size>(arguments, true, device, stream);
    if (arguments.max_rows > kShortLength) launch_list<T, size>(arguments, false, device, stream);
  });
}

}  // namespace

bool disentangled_attention_fits(int32_t head_size, const DeviceTraits& device) {
  if (head_size > 128) return false;
  bool fits = false;
  with_disentangled_size(head_size,
                         [&](auto size) { fits = Shape<size>::kBytes <= device.max_shared_bytes; });
  return fits;
}

void attention_disentangled(const AttentionArguments& arguments, const DeviceTraits& device,
                            cudaStream_t stream) {
  if (arguments.max_sequences == 0) return;
  if (arguments.dtype == DType::kFloat16)
    launch_type<half>(arguments, device, stream);
  else
    launch_type<bfloat16>(arguments, device, stream);
}

}  // namespace vlt::cuda
