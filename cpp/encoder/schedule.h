// How the CPU's workers divide a batch: into which chunks, and whether they share each chunk.
// Pure arithmetic on lengths; nothing here changes a result's bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "model/architecture.h"

namespace vlt {

// Sequences [first, end) of the batch that go through the whole model together.
struct Chunk {
  int32_t first = 0;
  int32_t end = 0;
  int64_t num_tokens = 0;
  double cost = 0;  // floating-point operations, small chunks rounded up
};

struct Schedule {
  Stream::Mode mode = Stream::Mode::kAlone;
  int workers = 1;
  std::vector<Chunk> chunks;  // the costliest first, so that the last to end are small
};

// What chunks may hold at most. A chunk of one sequence may always be as long as it is.
struct ChunkLimits {
  int64_t alone_tokens = 0;     // chunk of one worker; 0: the workspace limit rules this mode out
  int64_t together_tokens = 0;  // chunk of all workers; 0: likewise
  int32_t sequences = 0;        // at least 1
};

// Chunks without regard to a workspace limit. Measured on MiniLM-L6 and BERT-base: below 128 tokens
// streaming the weights shows, above 256 activations fall out of a 1 MiB L2.
inline constexpr int64_t kAloneTokens = 256;
inline constexpr int64_t kTogetherTokensPerWorker = 512;
// Empty sequences have no tokens, so their number needs a bound of its own.
inline constexpr int32_t kMaxChunkSequences = 1024;

Schedule make_schedule(const int32_t* sequence_starts, int32_t num_sequences,
                       const Architecture& architecture, int workers, const ChunkLimits& limits);

}  // namespace vlt
