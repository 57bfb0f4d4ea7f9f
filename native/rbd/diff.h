#pragma once
#include "runtime/bind.h"

namespace cephkit {

void InitDiff(Exports& exports);

}  // namespace cephkit
