// Where lanes find a norm's weight and bias, 8 bytes a column, which every row needs anew.
//
// The L1 cache and shared memory of a multiprocessor deliver 128 bytes a cycle. For a row of 768
// float16 the constants are 6 KB, 48 cycles, and 96 where the 16-byte loads of neighbouring lanes lie
// 32 bytes apart, as in CachedConstants; an H200 reads and writes such a row in 167 cycles of each
// multiprocessor, in which the row itself passes there as well. So constants that stay nearer leave
// time for rows, but take registers or shared memory.
//
// All of them read the constants before wait_for_previous(), when time is free: no kernel of a run
// writes them.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {

// From memory, by way of the L1 cache.
template <typename Shape>
class CachedConstants {
 public:
  struct Storage {};
  static constexpr int kRegisters = 0;

  __device__ CachedConstants(const Norm& norm, int32_t cols, Storage&) : norm_(norm) {
    prefetch_norm(norm, cols);
  }

  // Those of chunk c of this lane.
  __device__ void get(int c, float (&weight)[Shape::kElements],
                      float (&bias)[Shape::kElements]) const {
    load_constants(norm_.weight + Shape::column(c), weight);
    load_constants(norm_.bias + Shape::column(c), bias);
  }

 private:
  const Norm& norm_;
};

// From shared memory, where part p of every chunk lies beside part p of the next one: neighbouring
// lanes read neighbouring 16 bytes.
template <typename Shape>
class SharedConstants {
  static constexpr int kParts = Shape::kElements / 4;
  using Table = float4[kParts][Shape::kLanes * Shape::kChunks];

 public:
  struct Storage {
    Table weight, bias;
  };
  static constexpr int kRegisters = 0;

  // By all threads of the block, which wait for each other.
  __device__ SharedConstants(const Norm& norm, int32_t cols, Storage& storage) : storage_(storage) {
    const auto* weight = reinterpret_cast<const float4*>(norm.weight);
    const auto* bias = reinterpret_cast<const float4*>(norm.bias);
    for (int i = static_cast<int>(threadIdx.x); i < cols / 4; i += kRowThreads) {
      storage.weight[i % kParts][i / kParts] = __ldg(weight + i);
      storage.bias[i % kParts][i / kParts] = __ldg(bias + i);
    }
    __syncthreads();
  }

  __device__ void get(int c, float (&weight)[Shape::kElements],
                      float (&bias)[Shape::kElements]) const {
    copy(storage_.weight, c, weight);
    copy(storage_.bias, c, bias);
  }

 private:
  __device__ static void copy(const Table& table, int c, float (&x)[Shape::kElements]) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const float4 four = table[part][Shape::chunk(c)];
      x[4 * part] = four.x;
      x[4 * part + 1] = four.y;
      x[4 * part + 2] = four.z;
      x[4 * part + 3] = four.w;
    }
  }

  const Storage& storage_;
};

// In the registers of the lanes that need them.
template <typename Shape>
class RegisterConstants {
 public:
  struct Storage {};
  // Those are free that the others load a chunk of constants to.
  static constexpr int kRegisters = 2 * Shape::kElements * (Shape::kChunks - 1) - 5;

  __device__ RegisterConstants(const Norm& norm, int32_t cols, Storage&) {
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c) {
      if (!Shape::exists(c, cols / Shape::kElements)) continue;
      load_constants(norm.weight + Shape::column(c), weight_[c]);
      load_constants(norm.bias + Shape::column(c), bias_[c]);
    }
  }

  __device__ void get(int c, float (&weight)[Shape::kElements],
                      float (&bias)[Shape::kElements]) const {
#pragma unroll
    for (int e = 0; e < Shape::kElements; ++e) {
      weight[e] = weight_[c][e];
      bias[e] = bias_[c][e];
    }
  }

 private:
  float weight_[Shape::kChunks][Shape::kElements] = {};
  float bias_[Shape::kChunks][Shape::kElements] = {};
};

}  // namespace vlt::cuda
