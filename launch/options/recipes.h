// launch/options/recipes.h - the recipes of launch/recipes/*.cfg, built into the program.
#pragma once

#include <string>
#include <vector>

namespace convoy {

std::vector<std::string> RecipeNames();
// The text of a recipe. Throws (kUsage), naming the nearest one.
std::string RecipeText(const std::string& name);

}  // namespace convoy
