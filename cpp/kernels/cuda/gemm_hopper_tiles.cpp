// Which tile the sm_90a product uses: a model of its time, in plain arithmetic. All tiles give the
// same bits, so the choice may follow the number of rows.
#include <algorithm>
#include <array>

#include "kernels/cuda/gemm.h"

namespace vlt::cuda {
namespace {

// Microseconds, as one block works through its tiles. A stage is 64 columns of K.
struct TileCost {
  HopperTile tile;
  double fixed;        // once: filling the pipeline, and the last tile's epilogue
  double first_stage;  // of the block's first tile, while many blocks may have none
  double stage;        // of each further tile
  double tile_extra;   // each further tile's own time beside its stages
};

// Fitted to the times on an H100 (132 multiprocessors) at M = 64 … 65,536 and the 12 layers' shapes
// of MiniLM-L6, BERT-base and BERT-large: least squares of the relative error where a tile is within
// 2.2 times the best, no term negative, then moved a little for the sake of the choice, and so that
// a larger tile never looks cheaper where a smaller one does less. There the choice takes 1.3 %
// longer than the best tile in the geometric mean, and at worst 17 % (256 × 3072 × 768, where
// 64 × 64 is best). 128 × 192 wins where it divides the width and tiles are many: at
// 65,536 × 3072 × 1024 it takes 609 µs, 128 × 128 736 µs.
constexpr std::array<TileCost, 5> kTiles = {{
    {{128, 192}, 4.927, 0.682, 0.575, 1.410},
    {{128, 128}, 3.731, 0.349, 0.422, 0.576},
    {{64, 128}, 3.439, 0.167, 0.346, 0.0},
    {{64, 64}, 2.294, 0.109, 0.211, 0.0},
    {{64, 32}, 2.123, 0.091, 0.144, 0.110},
}};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double microseconds(const TileCost& cost, int64_t rows, int64_t outputs, int64_t inputs,
                    int num_multiprocessors) {
  const int64_t tiles = ceil_div(rows, cost.tile.rows) * ceil_div(outputs, cost.tile.cols);
  const double further_tiles = static_cast<double>(ceil_div(tiles, num_multiprocessors) - 1);
  const double stages = static_cast<double>(ceil_div(inputs, 64));
  return cost.fixed + stages * cost.first_stage +
         further_tiles * (stages * cost.stage + cost.tile_extra);
}

}  // namespace

int num_hopper_tiles() { return static_cast<int>(kTiles.size()); }

HopperTile hopper_tile(int index) { return kTiles[static_cast<size_t>(index)].tile; }

int choose_hopper_tile(int64_t rows, int64_t outputs, int64_t inputs, int num_multiprocessors) {
  const auto best =
      std::min_element(kTiles.begin(), kTiles.end(), [&](const TileCost& a, const TileCost& b) {
        return microseconds(a, rows, outputs, inputs, num_multiprocessors) <
               microseconds(b, rows, outputs, inputs, num_multiprocessors);
      });
  return static_cast<int>(best - kTiles.begin());
}

}  // namespace vlt::cuda
