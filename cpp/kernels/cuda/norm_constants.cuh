// Where lanes find a norm's weight and bias, 8 bytes a column, which every row needs anew.
//
// Read from memory for each row, they come from the L1 cache, which delivers 128 bytes a cycle: for a
// row of 768 float16 they are 6 KB, 48 cycles, and 96 as the 16-byte loads of neighbouring lanes lie
// 32 bytes apart. The row itself, 1.5 KB each way, passes there too, and at 3.00 TB/s each
// multiprocessor of an H100 has some 230 cycles for all of it. So they are kept nearer: in shared
// memory, laid out for 48 cycles, or in registers, which costs warps. Measured for layernorm.cu, on
// an H100, µs for rows of 384 / 768 / 1024 float16:
//
//   rows     L1 cache             shared memory        registers
//   4,096    4.8 / 7.8 / 10.1     4.2 / 6.4 / 7.6      3.8 / 6.0 / 7.9
//   65,536   39.7 / 78.4 / 103.8  38.9 / 75.0 / 98.2   37.0 / 74.8 / 98.4
//
// Both read the constants before wait_for_previous(), when time is free: no kernel of a run writes
// them.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {

// Part p of every chunk lies beside part p of the next one: neighbouring lanes read neighbouring 16
// bytes.
template <typename Shape>
class SharedConstants {
  static constexpr int kParts = Shape::kElements / 4;
  using Table = float4[kParts][Shape::kLanes * Shape::kChunks];

 public:
  struct Storage {
    Table weight, bias;
  };
  static constexpr int kRegisters = 0;  // see RowShape::blocks()

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

  // Those of chunk c of this lane.
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

// Each lane has those of its chunks.
template <typename Shape>
class RegisterConstants {
 public:
  struct Storage {};
  // The others need registers, too, to read a chunk's constants to.
  static constexpr int kRegisters = 2 * Shape::kElements * (Shape::kChunks - 1) - 5;

  __device__ RegisterConstants(const Norm& norm, int32_t cols, Storage&)
      : RegisterConstants(norm, cols) {}
  __device__ RegisterConstants(const Norm& norm, int32_t cols) {
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c) {
      if (!Shape::exists(c, cols / Shape::kElements)) continue;
      load(norm.weight + Shape::column(c), weight_[c]);
      load(norm.bias + Shape::column(c), bias_[c]);
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
  __device__ static void load(const float* from, float (&x)[Shape::kElements]) {
#pragma unroll
    for (int e = 0; e < Shape::kElements; e += 4) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(from + e));
      x[e] = four.x;
      x[e + 1] = four.y;
      x[e + 2] = four.z;
      x[e + 3] = four.w;
    }
  }

  float weight_[Shape::kChunks][Shape::kElements] = {};
  float bias_[Shape::kChunks][Shape::kElements] = {};
};

}  // namespace vlt::cuda
