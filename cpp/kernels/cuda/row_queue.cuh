// Rows on their way from memory to a warp: asked for some turns ahead, taken in the same order.
// Nobody but the lane that asks for a chunk sees it before it takes it, so lanes wait for themselves.
#pragma once

#include "kernels/cuda/ptx_sm80.cuh"
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {

// A turn's rows on their way, to registers.
template <typename T, typename Shape>
class RegisterQueue {
 public:
  struct Storage {};
  static constexpr int kAhead = 1;  // turns on their way while a warp works
  static constexpr int kRegisters = Shape::kLoadRegisters;

  __device__ explicit RegisterQueue(Storage&) {}

  // row_of(i): where row i of this lane begins.
  template <typename RowOf>
  __device__ void ask(int num_chunks, const RowOf& row_of) {
    load_rows<T, Shape>(num_chunks, row_of, chunks_);
  }
  // In place of ask() behind the last turn.
  __device__ void ask_for_none() {}
  __device__ void take(int, Rows<Shape>& x) { unpack_rows<T, Shape>(chunks_, x); }

 private:
  Chunks<Shape> chunks_;
};

// Several turns' rows, to shared memory; they take no registers. A slot is asked to be filled again
// in the turn after the one that took it, whose sums needed all that was read from it.
template <typename T, typename Shape, int ahead>
class SharedQueue {
  static constexpr int kSlots = ahead + 1;
  using Slot = uint4[Shape::kRows][Shape::kChunks][32];

 public:
  struct Storage {
    Slot slots[kRowWarps][kSlots];
  };
  static constexpr int kAhead = ahead;
  static constexpr int kRegisters = 12;  // addresses and counts

  __device__ explicit SharedQueue(Storage& storage)
      : slots_(storage.slots[threadIdx.x / 32]), lane_(static_cast<int>(threadIdx.x) % 32) {}
  // Rows that nobody took must not arrive in shared memory that is somebody else's by then.
  __device__ ~SharedQueue() { wait_copies<0>(); }

  template <typename RowOf>
  __device__ void ask(int num_chunks, const RowOf& row_of) {
    Slot& slot = slots_[next(asked_)];
#pragma unroll
    for (int i = 0; i < Shape::kRows; ++i) {
      const T* row = row_of(i);
#pragma unroll
      for (int c = 0; c < Shape::kChunks; ++c)
        if (Shape::exists(c, num_chunks))
          copy16_async(shared_address(&slot[i][c][lane_]), row + Shape::column(c));
    }
    commit_copies();
  }
  // Turns are counted by groups of copies: this one is empty.
  __device__ void ask_for_none() { commit_copies(); }

  __device__ void take(int num_chunks, Rows<Shape>& x) {
    wait_copies<ahead - 1>();
    const Slot& slot = slots_[next(taken_)];
#pragma unroll
    for (int i = 0; i < Shape::kRows; ++i)
#pragma unroll
      for (int c = 0; c < Shape::kChunks; ++c)
        unpack<T>(Shape::exists(c, num_chunks) ? slot[i][c][lane_] : make_uint4(0, 0, 0, 0),
                  x[i][c]);
  }

 private:
  __device__ static int next(int& turn) {
    const int slot = turn;
    turn = turn == kSlots - 1 ? 0 : turn + 1;
    return slot;
  }

  Slot* slots_;
  int lane_;
  int asked_ = 0, taken_ = 0;
};

// To shared memory `ahead` turns ahead; to registers where that is 0.
template <typename T, typename Shape, int ahead>
using RowQueue =
    std::conditional_t<ahead == 0, RegisterQueue<T, Shape>, SharedQueue<T, Shape, ahead>>;

}  // namespace vlt::cuda
