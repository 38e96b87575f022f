#include "kernels/cpu/cpu_quota.h"

#include <cmath>
#include <cstdlib>
#include <fstream>

namespace vlt {
namespace {

constexpr double kNoLimit = 1e9;

double smaller(double a, double b) { return a < b ? a : b; }

// Version 2: "max 100000", or "150000 100000" for one and a half cores.
double limit_of_version_2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return kNoLimit;
  const double limit = std::strtod(quota.c_str(), nullptr) / period;
  return limit > 0 ? limit : kNoLimit;
}

// Version 1: a quota of -1 is none.
double limit_of_version_1(const std::string& folder) {
  double quota = -1, period = 0;
  std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : kNoLimit;
}

// The least limit of a group and those above it. In a container the path may be the host's and not
// be here; the groups that are here count.
double least_limit(const std::string& mount, std::string path,
                   double (*limit_of)(const std::string& folder)) {
  double least = limit_of(mount);
  for (size_t end; !path.empty(); path.resize(end)) {
    least = smaller(least, limit_of(mount + path));
    end = path.find_last_of('/');
    if (end == std::string::npos) break;
  }
  return least;
}

// Is "cpu" among "cpu,cpuacct"?
bool names_cpu(const std::string& controllers) {
  return (',' + controllers + ',').find(",cpu,") != std::string::npos;
}

}  // namespace

int cores_in_cgroup_quota(const std::string& memberships, const std::string& mount) {
  double least = smaller(limit_of_version_2(mount), limit_of_version_1(mount + "/cpu"));
  std::ifstream file(memberships);
  // "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty())
      least = smaller(least, least_limit(mount, path, limit_of_version_2));
    else if (names_cpu(controllers))
      least = smaller(least, least_limit(mount + "/cpu", path, limit_of_version_1));
  }
  return least < kNoLimit ? static_cast<int>(std::ceil(least)) : 0;
}

}  // namespace vlt
