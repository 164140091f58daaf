// dataloader/archives/names.h - names of files and archive members: their parts, and which ones are
// images.
#pragma once

#include <string>
#include <string_view>

namespace convoy {

// Return the parts of a path: "train/n01440764" and "a.JPEG" of "train/n01440764/a.JPEG".
std::string_view FolderOf(std::string_view path);
std::string_view BaseOf(std::string_view path);
// Returns `text` with small ASCII letters.
std::string LowerCase(std::string_view text);
// Returns the part of the base name after its last point, in lower case: "jpeg". Empty if there is
// none.
std::string ExtensionOf(std::string_view path);
// Returns whether a name ends with .jpeg, .jpg, .jpe, .jfif or .png, in any case. The first bytes
// of the file say what it really is.
bool IsImageName(std::string_view path);
// Returns whether a name is that of a file, folder or member that is never part of a data set.
// Everything that looks for names asks this. Such names begin with a point (.DS_Store, and the ._x
// that macOS puts beside x), or are added by other systems (__MACOSX, "Icon\r", Thumbs.db,
// desktop.ini, @eaDir, lost+found), or are those of Convoy's own indexes and of files that are
// still being written (.partial).
bool IsIgnoredName(std::string_view base);
// Returns whether any part of "a/b/c" is such a name.
bool IsIgnoredPath(std::string_view path);
// Returns `text` with bytes that are not printable ASCII as \xNN, cut after 120 bytes. It is safe
// in one line.
std::string Printable(std::string_view text);

}  // namespace convoy
