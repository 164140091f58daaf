// dataloader/archives/names.h - names of files and archive members: their parts, and which ones are
// images.
#pragma once

#include <string>
#include <string_view>

namespace convoy {

// "train/n01440764/a.JPEG" -> "train/n01440764" and "a.JPEG".
std::string_view FolderOf(std::string_view path);
std::string_view BaseOf(std::string_view path);
// ASCII letters become small ones.
std::string LowerCase(std::string_view text);
// The part of the base name after its last point, in lower case: "jpeg". Empty if there is none.
std::string ExtensionOf(std::string_view path);
// Named .jpeg, .jpg, .jpe, .jfif or .png, in any case. What the file really is, its first bytes
// say.
bool IsImageName(std::string_view path);
// Names that no data set means, of files, folders and members alike. Everything that looks for
// names asks this: names that start with a point (.DS_Store, and the ._x that macOS puts beside x),
// what other systems add (__MACOSX, "Icon\r", Thumbs.db, desktop.ini, @eaDir, lost+found), Convoy's
// own indexes, and files that are still being written (.partial).
bool IsIgnoredName(std::string_view base);
// Whether any part of "a/b/c" is such a name.
bool IsIgnoredPath(std::string_view path);
// `text` with bytes that are not printable ASCII as \xNN, cut after 120 bytes: safe in one line.
std::string Printable(std::string_view text);

}  // namespace convoy
