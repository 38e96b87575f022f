// Prints what cpu_quota.h makes of a folder: cpu_quota MEMBERSHIPS MOUNT
#include "kernels/cpu/cpu_quota.h"

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::printf("%d\n", vlt::cores_in_cgroup_quota(argv[1], argv[2]));
  return 0;
}
