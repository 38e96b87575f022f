// How much CPU time Linux's control groups (cgroups) leave to this process.
#pragma once

#include <string>

namespace vlt {

// Cores' worth of time, rounded up; 0 where there is no limit. A process is in a group, whose groups
// above it limit it too. `memberships` is the file that names the group, `mount` the folder of all.
int cores_in_cgroup_quota(const std::string& memberships = "/proc/self/cgroup",
                          const std::string& mount = "/sys/fs/cgroup");

}  // namespace vlt
