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

constexpr int kNumTiles = 4;
constexpr int kMultiprocessors = 132;  // of the H200 that the times below are from
constexpr double kMostLost = 1.15;

constexpr std::array<HopperTile, kNumTiles> kTiles = {{{128, 128}, {64, 128}, {64, 64}, {64, 32}}};

struct Measurement {
  int64_t rows, outputs, inputs;
  std::array<double, kNumTiles> microseconds;  // as kTiles
};

// Layers of MiniLM-L6, BERT-base and BERT-large in float16. Each tile is the best of some.
constexpr std::array<Measurement, 14> kMeasurements = {{
    {64, 1152, 384, {4.60, 3.50, 2.72, 2.66}},
    {1024, 384, 384, {5.27, 3.89, 3.16, 3.74}},
    {4096, 384, 384, {7.12, 6.49, 6.09, 7.33}},
    {512, 1536, 384, {6.92, 4.71, 4.40, 4.80}},
    {16384, 1152, 384, {25.68, 31.50, 38.59, 67.04}},
    {8192, 384, 1536, {21.46, 20.55, 25.34, 38.68}},
    {512, 2304, 768, {7.51, 7.46, 7.37, 9.72}},
    {2048, 768, 768, {8.58, 8.07, 8.77, 11.43}},
    {256, 3072, 768, {8.88, 6.85, 6.13, 6.95}},
    {32768, 3072, 768, {256.03, 369.34, 401.65, 729.28}},
    {1024, 768, 3072, {17.38, 11.99, 15.02, 19.49}},
    {1024, 3072, 1024, {13.86, 15.87, 18.46, 26.43}},
    {512, 4096, 1024, {11.10, 12.49, 13.57, 19.14}},
    {65536, 1024, 4096, {788.77, 1302.02, 1622.53, 2437.06}},
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

// Where all multiprocessors stay busy for long, the largest tile moves the fewest bytes.
void test_large(Report& report) {
  for (const int64_t inputs : {int64_t{256}, int64_t{768}, int64_t{100'000}})
    for (const int multiprocessors : {1, 78, 132}) {
      const int tile = choose_hopper_tile(1'000'000, 1024, inputs, multiprocessors);
      const std::string chosen = "chose tile " + std::to_string(tile);
      report.check(name_of(1'000'000, 1024, inputs, multiprocessors), tile == 0, chosen.c_str());
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
