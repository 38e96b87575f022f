// The choice of a tile for the sm_90a product: near the best where it was measured, and sensible
// anywhere. Needs no GPU.
#include <algorithm>
#include <array>

#include "harness.h"
#include "kernels/cuda/gemm.h"

namespace vlt::tests {
namespace {

using cuda::choose_hopper_tile;
using cuda::hopper_tile;
using cuda::HopperTile;

constexpr int kNumTiles = 5;
constexpr int kMultiprocessors = 132;  // of the H100 that the times below are from
constexpr double kMostLost = 1.18;

constexpr std::array<HopperTile, kNumTiles> kTiles = {
    {{128, 192}, {128, 128}, {64, 128}, {64, 64}, {64, 32}}};

struct Measurement {
  int64_t rows, outputs, inputs;
  std::array<double, kNumTiles> microseconds;  // as kTiles
};

// Layers of MiniLM-L6, BERT-base and BERT-large in float16. Each tile is the best of some.
constexpr std::array<Measurement, 15> kMeasurements = {{
    {64, 1152, 384, {5.68, 4.47, 3.43, 2.64, 2.59}},
    {1024, 384, 384, {6.80, 5.26, 3.99, 3.36, 3.83}},
    {4096, 384, 384, {8.20, 8.06, 7.41, 6.53, 7.25}},
    {512, 1536, 384, {9.35, 6.80, 4.95, 4.53, 4.61}},
    {16384, 1152, 384, {31.44, 27.73, 39.21, 47.23, 68.60}},
    {8192, 384, 1536, {23.32, 24.13, 23.91, 31.07, 41.04}},
    {512, 2304, 768, {9.79, 7.77, 7.82, 8.20, 9.28}},
    {2048, 768, 768, {10.82, 9.33, 8.77, 9.84, 11.11}},
    {256, 3072, 768, {12.76, 9.23, 7.63, 6.50, 7.00}},
    {32768, 3072, 768, {252.00, 267.18, 454.61, 553.90, 714.66}},
    {1024, 768, 3072, {26.67, 17.18, 14.09, 17.59, 20.56}},
    {1024, 3072, 1024, {14.94, 14.79, 18.75, 21.55, 26.83}},
    {512, 4096, 1024, {16.44, 11.90, 14.21, 15.78, 19.19}},
    {65536, 3072, 1024, {608.99, 735.49, 1210.78, 1592.32, 1727.90}},
    {65536, 1024, 4096, {1019.07, 915.49, 1580.38, 2065.22, 2354.05}},
}};

std::string name_of(int64_t rows, int64_t outputs, int64_t inputs, int multiprocessors) {
  return "M=" + std::to_string(rows) + " N=" + std::to_string(outputs) +
         " K=" + std::to_string(inputs) + " on " + std::to_string(multiprocessors);
}

void test_measured(Report& report) {
  for (const Measurement& m : kMeasurements) {
    const int chosen = choose_hopper_tile(m.rows, m.outputs, m.inputs, kMultiprocessors);
    const double time = m.microseconds[static_cast<size_t>(chosen)];
    const double best = *std::min_element(m.microseconds.begin(), m.microseconds.end());
    char text[96];
    std::snprintf(text, sizeof(text), "tile %d takes %.2f us, the best %.2f", chosen, time, best);
    report.check(name_of(m.rows, m.outputs, m.inputs, kMultiprocessors), time <= kMostLost * best,
                 text);
  }
}

// A tile is never larger than need be: not taller than the rows nor wider than the outputs where a
// smaller one covers them too, and the smallest where each still gets a multiprocessor of its own.
bool wastes_nothing(const HopperTile& tile, int64_t rows, int64_t outputs, int multiprocessors) {
  if (rows <= 64 && tile.rows > 64) return false;
  if (outputs <= 64 && tile.cols > 64) return false;
  const int64_t smallest = ((rows + 63) / 64) * ((outputs + 31) / 32);
  return smallest > multiprocessors || (tile.rows == 64 && tile.cols == 32);
}

void test_everywhere(Report& report) {
  constexpr int64_t kMost = 2147483647;
  for (const int64_t rows : {int64_t{1}, int64_t{63}, int64_t{65}, int64_t{1000}, kMost})
    for (const int64_t outputs : {int64_t{1}, int64_t{32}, int64_t{64}, int64_t{2304}, kMost})
      for (const int64_t inputs : {int64_t{1}, int64_t{384}, int64_t{4096}, kMost})
        for (const int multiprocessors : {1, 78, 132}) {
          const std::string name = name_of(rows, outputs, inputs, multiprocessors);
          const int tile = choose_hopper_tile(rows, outputs, inputs, multiprocessors);
          const std::string chosen = "chose tile " + std::to_string(tile);
          const bool valid = tile >= 0 && tile < kNumTiles;
          report.check(name + " valid", valid, chosen.c_str());
          if (!valid) continue;
          const bool fits = wastes_nothing(hopper_tile(tile), rows, outputs, multiprocessors);
          report.check(name + " fits", fits, chosen.c_str());
        }
}

// Where all multiprocessors stay busy for long, the largest tile moves the fewest bytes, if its
// epilogue is short beside its products and it divides the width.
void test_large(Report& report) {
  for (const int64_t inputs : {int64_t{768}, int64_t{1024}, int64_t{100'000}})
    for (const int multiprocessors : {1, 78, 132}) {
      const int tile = choose_hopper_tile(1'000'000, 3072, inputs, multiprocessors);
      const std::string chosen = "chose tile " + std::to_string(tile);
      report.check(name_of(1'000'000, 3072, inputs, multiprocessors), tile == 0, chosen.c_str());
    }
}

}  // namespace

int test_tile_choice() {
  Report report("cuda");
  bool as_measured = cuda::num_hopper_tiles() == kNumTiles;
  for (int i = 0; as_measured && i < kNumTiles; ++i) {
    const HopperTile tile = hopper_tile(i), expected = kTiles[static_cast<size_t>(i)];
    as_measured = tile.rows == expected.rows && tile.cols == expected.cols;
  }
  report.check("tiles", as_measured, "are not those that the times were measured with");
  if (as_measured) {
    test_measured(report);
    test_everywhere(report);
    test_large(report);
  }
  return report.finish("tile_choice");
}

}  // namespace vlt::tests
