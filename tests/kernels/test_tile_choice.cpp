// The choice of a tile for the sm_90a product: near the best where it was measured, and sensible
// anywhere. Needs no GPU.
#include <algorithm>
#include <array>

#include "harness.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_norm.h"

namespace vlt::tests {
namespace {

using cuda::choose_hopper_tile;
using cuda::hopper_tile;
using cuda::HopperTile;

constexpr int kNumTiles = 9;
constexpr int kMultiprocessors = 132;  // of the H200 that the times below are from
constexpr double kMostLost = 1.08;

constexpr std::array<HopperTile, kNumTiles> kTiles = {{{128, 192, 1},
                                                       {128, 160, 1},
                                                       {128, 128, 1},
                                                       {128, 96, 1},
                                                       {64, 64, 1},
                                                       {64, 32, 1},
                                                       {128, 192, 2},
                                                       {128, 160, 2},
                                                       {128, 128, 2}}};

struct Measurement {
  int64_t rows, outputs, inputs;
  bool activates;
  std::array<double, kNumTiles> microseconds;  // as kTiles; 0 where not measured
};

// Layers of MiniLM-L6, BERT-base and BERT-large in float16; from 9,984 rows on for a third of a second
// in turns, so that the card is at its limit of power.
constexpr std::array<Measurement, 20> kMeasurements = {{
    {64, 1152, 384, false, {5.5, 4.9, 4.3, 3.7, 2.4, 2.3}},
    {1024, 384, 384, false, {6.4, 5.6, 4.8, 4.1, 2.9, 2.9}},
    {3072, 384, 384, false, {7.0, 6.3, 5.4, 4.9, 5.7, 6.1}},
    {512, 1536, 384, true, {8.2, 7.1, 5.9, 4.7, 3.9, 4.1}},
    {6144, 1536, 384, true, {19.5, 17.4, 17.4, 16.3, 23.9, 28.9}},
    {512, 2304, 768, false, {9.5, 7.9, 7.4, 6.1, 7.6, 8.4}},
    {2048, 768, 768, false, {10.1, 8.6, 7.4, 6.5, 8.8, 9.0}},
    {1024, 3072, 768, true, {13.6, 14.4, 12.6, 10.7, 14.2, 17.0}},
    {3072, 768, 3072, false, {30.9, 24.6, 35.7, 28.9, 39.1, 49.5}},
    {4677, 1024, 4096, false, {80.2, 64.5, 73.7, 77.3, 114.9, 146.6}},
    {512, 4096, 1024, true, {15.1, 12.2, 10.2, 12.8, 12.6, 15.4}},
    {9984, 384, 1536, false, {34.8, 30.7, 23.0, 26.9, 0, 0, 38.4, 29.1, 24.1}},
    {42496, 1152, 384, false, {75.4, 79.0, 72.0, 76.3, 0, 0, 83.2, 79.6, 73.2}},
    {42496, 1536, 384, true, {111.5, 116.1, 115.1, 118.1, 0, 0, 119.6, 115.1, 113.0}},
    {9984, 768, 3072, false, {93.7, 79.6, 86.4, 85.0, 0, 0, 99.1, 81.0, 86.7}},
    {42496, 3072, 768, true, {340.8, 381.2, 385.0, 402.5, 0, 0, 360.7, 364.9, 370.6}},
    {9984, 3072, 1024, false, {105.0, 105.7, 103.9, 108.6, 0, 0, 113.2, 105.3, 105.0}},
    {42496, 1024, 1024, false, {183.4, 179.6, 164.5, 195.5, 0, 0, 190.6, 169.3, 164.4}},
    {42496, 4096, 1024, true, {592.2, 608.9, 652.3, 701.4, 0, 0, 651.9, 601.0, 626.7}},
    {42496, 1024, 4096, false, {692.8, 645.8, 597.1, 666.1, 0, 0, 686.1, 613.2, 592.5}},
}};

std::string name_of(int64_t rows, int64_t outputs, int64_t inputs, int multiprocessors) {
  return "M=" + std::to_string(rows) + " N=" + std::to_string(outputs) +
         " K=" + std::to_string(inputs) + " on " + std::to_string(multiprocessors);
}

void test_measured(Report& report) {
  for (const Measurement& m : kMeasurements) {
    const int chosen =
        choose_hopper_tile(m.rows, m.outputs, m.inputs, m.activates, kMultiprocessors);
    const double time = m.microseconds[static_cast<size_t>(chosen)];
    double best = time;
    for (const double other : m.microseconds)
      if (other > 0) best = std::min(best, other);
    char text[96];
    std::snprintf(text, sizeof(text), "tile %d takes %.2f us, the best %.2f", chosen, time, best);
    report.check(name_of(m.rows, m.outputs, m.inputs, kMultiprocessors), time <= kMostLost * best,
                 text);
    report.check(name_of(m.rows, m.outputs, m.inputs, kMultiprocessors) + " measured", time > 0,
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
          const int tile =
              choose_hopper_tile(rows, outputs, inputs, inputs == 384, multiprocessors);
          const std::string chosen = "chose tile " + std::to_string(tile);
          const bool valid = tile >= 0 && tile < kNumTiles;
          report.check(name + " valid", valid, chosen.c_str());
          if (!valid) continue;
          const bool fits = wastes_nothing(hopper_tile(tile), rows, outputs, multiprocessors);
          report.check(name + " fits", fits, chosen.c_str());
        }
}

// Where all multiprocessors stay busy for long: by themselves the widest tiles, which move the fewest
// bytes; where blocks share the weights, 128 × 128 for a model's K, but 128 × 192 where results are
// activated, or where K is so long that epilogues do not count.
void test_large(Report& report) {
  for (const int64_t inputs : {int64_t{768}, int64_t{1024}, int64_t{100'000}})
    for (const int multiprocessors : {1, 2, 78, 132})
      for (const bool activates : {false, true}) {
        const int tile = choose_hopper_tile(1'000'000, 3072, inputs, activates, multiprocessors);
        const std::string chosen = "chose tile " + std::to_string(tile);
        const int expected = multiprocessors == 1 ? 0 : activates || inputs > 4096 ? 6 : 8;
        report.check(name_of(1'000'000, 3072, inputs, multiprocessors), tile == expected,
                     chosen.c_str());
      }
}

// Blocks share weights where power is scarce: of many rows that are wide on both sides.
void test_sharing(Report& report) {
  for (const int64_t rows : {int64_t{8191}, int64_t{8192}, int64_t{1'000'000}})
    for (const int64_t outputs : {int64_t{384}, int64_t{512}, int64_t{3072}})
      for (const int64_t inputs : {int64_t{384}, int64_t{512}, int64_t{3072}}) {
        const int tile = choose_hopper_tile(rows, outputs, inputs, false, kMultiprocessors);
        const bool may_share = rows >= 8192 && outputs >= 512 && inputs >= 512;
        const bool shares = hopper_tile(tile).cluster > 1;
        const std::string chosen = "chose tile " + std::to_string(tile);
        report.check(name_of(rows, outputs, inputs, kMultiprocessors) + " shares only there",
                     may_share || !shares, chosen.c_str());
        if (may_share && rows > 8192)
          report.check(name_of(rows, outputs, inputs, kMultiprocessors) + " shares", shares,
                       chosen.c_str());
      }
}

// Where whole models were faster with it on an H200, and not where they were slower.
void test_norming_along(Report& report) {
  struct Case {
    int64_t rows, outputs;
    bool pays;
  };
  for (const Case& c :
       {Case{192, 384, false}, Case{256, 384, true}, Case{1024, 384, true}, Case{1088, 384, false},
        Case{128, 768, false}, Case{512, 768, false}, Case{768, 768, true}, Case{1024, 768, false},
        Case{512, 1024, false}, Case{768, 1024, true}, Case{1024, 1024, false},
        Case{256, 312, false}, Case{256, 2048, false}})
    report.check(name_of(c.rows, c.outputs, 0, kMultiprocessors) + " norms along",
                 cuda::norming_along_pays(c.rows, c.outputs, kMultiprocessors) == c.pays,
                 c.pays ? "does not" : "does");
  report.check("more rows norm along", !cuda::norming_along_pays(1025, 128, kMultiprocessors),
               "do");
  // The widths that the kernel is compiled for: see gemm_norm_hopper.cu.
  std::string served;
  for (int64_t outputs = 1; outputs <= 4096; ++outputs)
    if (const int cols = cuda::norm_block_columns(outputs); cols > 0)
      served += std::to_string(outputs / cols) + "x" + std::to_string(cols) + " ";
  report.check("widths",
               served == "2x64 3x64 4x64 5x64 6x64 7x64 8x64 6x96 5x128 7x96 8x96 7x128 8x128 ",
               served.c_str());
}

}  // namespace

int test_tile_choice() {
  Report report("cuda");
  bool as_measured = cuda::num_hopper_tiles() == kNumTiles;
  for (int i = 0; as_measured && i < kNumTiles; ++i) {
    const HopperTile tile = hopper_tile(i), expected = kTiles[static_cast<size_t>(i)];
    as_measured = tile.rows == expected.rows && tile.cols == expected.cols &&
                  tile.cluster == expected.cluster;
  }
  report.check("tiles", as_measured, "are not those that the times were measured with");
  if (as_measured) {
    test_measured(report);
    test_everywhere(report);
    test_sharing(report);
    test_norming_along(report);
    test_large(report);
  }
  return report.finish("tile_choice");
}

}  // namespace vlt::tests
