// Which tile the sm_90a product uses, and whether it norms its rows along: a model of its time, in
// plain arithmetic. All give the same bits, so the choice may follow the number of rows.
#include <algorithm>
#include <array>
#include <limits>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_norm.h"

namespace vlt::cuda {
namespace {

// Microseconds, as one multiprocessor works through its tiles. A stage is 64 columns of K.
struct TileCost {
  HopperTile tile;
  double fixed;         // once: filling the pipeline, and the last tile's epilogue
  double first_stage;   // of the first tile, while many multiprocessors may have none
  double stage;         // of each further tile
  double tile_extra;    // each further tile's own time beside its stages
  double activation;    // further tiles' more time where results are activated
  double activation_1;  // the same of a first tile that stays the only one
};

// Fitted to the times on an H200 (132 multiprocessors) at M = 64 … 42,287 and the 12 layers' shapes
// of MiniLM-L6, BERT-base and BERT-large with their epilogues, for the sake of the choice, so that a
// larger tile never looks cheaper where a smaller one does less. With these six the choice took 0.7 %
// longer than the best tile in the geometric mean, and 16 % at worst. Widths between are for the last
// wave: 4,677 × 1024 × 4096 makes 296 tiles of 128 × 128, three waves, but two of 128 × 160. Wide
// tiles win where waves are many, and behind GELU more so: an epilogue has to run under the other
// group's products.
//
// Blocks that share weights (see gemm_hopper_kernel.cuh) save power, which is worth more than what they
// lose by waiting for each other: of the widest tiles, many rows take only those. Their costs are those
// of the same tiles by themselves, but for what whole models were fastest with: 128 × 192 is for
// activations.
constexpr std::array<TileCost, 9> kTiles = {{
    {{128, 192, 1}, 3.774, 0.591, 0.557, 0.941, 0.439, 2.274},
    {{128, 160, 1}, 3.754, 0.463, 0.473, 0.625, 0.338, 1.211},
    {{128, 128, 1}, 3.361, 0.310, 0.384, 0.499, 0.338, 1.211},
    {{128, 96, 1}, 2.397, 0.242, 0.321, 0.317, 0.329, 1.185},
    {{64, 64, 1}, 1.923, 0.097, 0.145, 0.158, 0.160, 0.627},
    {{64, 32, 1}, 1.896, 0.097, 0.100, 0.108, 0.000, 0.225},
    {{128, 192, 2}, 3.774, 0.591, 0.575, 0.941, 0.000, 2.274},
    {{128, 160, 2}, 3.754, 0.463, 0.473, 0.625, 0.300, 1.211},
    {{128, 128, 2}, 3.361, 0.310, 0.384, 0.499, 0.400, 1.211},
}};
// From here on the card is at its limit of power, and what costs power costs time. BERT-large, 4,677
// rows: 2 to 6 % slower with shared weights; 10,313 rows: 1 to 3 % faster; 42,287 rows: 4 %.
constexpr int64_t kSharingRows = 8192;
// Products with fewer outputs or inputs than this wait for rows in memory, not for power: MiniLM-L6 is
// 4 to 5 % slower with shared weights at 10,313 rows, 2 to 4 % at 19,669, and 1 % at 42,287.
constexpr int64_t kSharingColumns = 512;

bool is_for(const HopperTile& tile, int64_t rows, int64_t outputs, int64_t inputs,
            int num_multiprocessors) {
  const bool sharing = rows >= kSharingRows && std::min(outputs, inputs) >= kSharingColumns &&
                       num_multiprocessors > 1;
  return tile.cluster > 1 ? sharing : !sharing || tile.cols < 128;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double microseconds(const TileCost& cost, int64_t rows, int64_t outputs, int64_t inputs,
                    bool activates, int num_multiprocessors) {
  const HopperTile& tile = cost.tile;
  const int64_t groups =
      ceil_div(rows, int64_t{tile.rows} * tile.cluster) * ceil_div(outputs, tile.cols);
  const double further_tiles =
      static_cast<double>(ceil_div(groups, num_multiprocessors / tile.cluster) - 1);
  const double stages = static_cast<double>(ceil_div(inputs, 64));
  double extra = further_tiles * cost.tile_extra;
  if (activates) extra += further_tiles > 0 ? further_tiles * cost.activation : cost.activation_1;
  return cost.fixed + stages * (cost.first_stage + further_tiles * cost.stage) + extra;
}

}  // namespace

int num_hopper_tiles() { return static_cast<int>(kTiles.size()); }

HopperTile hopper_tile(int index) { return kTiles[static_cast<size_t>(index)].tile; }

int choose_hopper_tile(int64_t rows, int64_t outputs, int64_t inputs, bool activates,
                       int num_multiprocessors) {
  const auto time = [&](const TileCost& cost) {
    return is_for(cost.tile, rows, outputs, inputs, num_multiprocessors)
               ? microseconds(cost, rows, outputs, inputs, activates, num_multiprocessors)
               : std::numeric_limits<double>::infinity();
  };
  const auto best =
      std::min_element(kTiles.begin(), kTiles.end(),
                       [&](const TileCost& a, const TileCost& b) { return time(a) < time(b); });
  return static_cast<int>(best - kTiles.begin());
}

int norm_block_columns(int64_t outputs) {
  constexpr int kMostBlocks = 8;  // of a cluster; more would not be portable
  if (outputs <= 512) return outputs % 64 == 0 && outputs > 64 ? 64 : 0;
  for (const int cols : {96, 128})
    if (outputs % cols == 0 && outputs / cols <= kMostBlocks) return cols;
  return 0;
}

// Measured in models on an H200. Its own tiles are wider than a product alone would take for few rows,
// which costs more than a kernel's start where they are wider than 64, until the product alone would
// need a second wave. 12 clusters of 8 blocks run at once, 16 do not. More rows were not measured.
bool norming_along_pays(int64_t rows, int64_t outputs, int num_multiprocessors) {
  const int cols = norm_block_columns(outputs);
  if (cols == 0 || rows > 1024) return false;
  const int64_t strips = ceil_div(rows, 64);
  if (strips * (outputs / cols) * 4 > int64_t{num_multiprocessors} * 3) return false;
  return cols == 64 ? strips > 3 : strips * ceil_div(outputs, 64) > num_multiprocessors;
}

}  // namespace vlt::cuda
