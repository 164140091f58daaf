// layers/oracle/update.h - the update rules in double precision.
#pragma once

#include <memory>

#include "layers/updater.h"

namespace convoy::oracle {

std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options);

}  // namespace convoy::oracle
