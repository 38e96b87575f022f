#include "scheduler/cost_model.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace vlt {
namespace {

constexpr int kTerms = 3;  // 1, ΣL, ΣL²
// A pivot this small beside the columns' own scale of 1 means that the points cannot tell the terms
// apart: measured times are good for two or three digits.
constexpr double kLeastPivot = 1e-9;

using Row = std::array<double, kTerms + 1>;

// Relative error: each point is divided by its time, so that small batches count like large ones.
Row terms(const CostPoint& point) {
  return {1 / point.seconds, point.tokens / point.seconds, point.squares / point.seconds, 1};
}

// The normal equations of the terms in `subset`, each column scaled to length 1, solved by Gaussian
// elimination with pivoting. False if they are singular.
bool solve(const std::vector<CostPoint>& points, unsigned subset, const Row& scale, Row& solution) {
  std::array<Row, kTerms> equations{};
  for (const CostPoint& point : points) {
    const Row row = terms(point);
    for (int i = 0; i < kTerms; ++i)
      for (int j = 0; j <= kTerms; ++j) equations[i][j] += row[i] * row[j] / (scale[i] * scale[j]);
  }
  for (int i = 0; i < kTerms; ++i) {
    if (subset >> i & 1) continue;
    for (Row& equation : equations) equation[i] = 0;
    equations[i] = {};
    equations[i][i] = 1;
  }
  for (int i = 0; i < kTerms; ++i) {
    int pivot = i;
    for (int k = i + 1; k < kTerms; ++k)
      if (std::abs(equations[k][i]) > std::abs(equations[pivot][i])) pivot = k;
    if (std::abs(equations[pivot][i]) < kLeastPivot) return false;
    std::swap(equations[i], equations[pivot]);
    for (int k = 0; k < kTerms; ++k) {
      if (k == i) continue;
      const double factor = equations[k][i] / equations[i][i];
      for (int j = i; j <= kTerms; ++j) equations[k][j] -= factor * equations[i][j];
    }
  }
  for (int i = 0; i < kTerms; ++i) solution[i] = equations[i][kTerms] / equations[i][i] / scale[i];
  return true;
}

double error_of(const std::vector<CostPoint>& points, const Row& solution) {
  double error = 0;
  for (const CostPoint& point : points) {
    const Row row = terms(point);
    const double miss = row[0] * solution[0] + row[1] * solution[1] + row[2] * solution[2] - 1;
    error += miss * miss;
  }
  return error;
}

}  // namespace

// The best non-negative solution is the unbounded one on some subset of the terms, and there are
// only seven subsets.
CostModel fit_cost_model(const std::vector<CostPoint>& points) {
  Row scale{0, 0, 0, 1};
  for (const CostPoint& point : points) {
    const Row row = terms(point);
    for (int i = 0; i < kTerms; ++i) scale[i] += row[i] * row[i];
  }
  for (int i = 0; i < kTerms; ++i) scale[i] = scale[i] > 0 ? std::sqrt(scale[i]) : 1;
  Row best{};
  double least = std::numeric_limits<double>::infinity();
  for (unsigned subset = 1; subset < 1u << kTerms; ++subset) {
    Row solution{};
    if (!solve(points, subset, scale, solution)) continue;
    if (solution[0] < 0 || solution[1] < 0 || solution[2] < 0) continue;
    const double error = error_of(points, solution);
    if (error < least) {
      least = error;
      best = solution;
    }
  }
  return {best[0], best[1], best[2]};
}

}  // namespace vlt
