// Names in CephFS are bytes, and so are paths: JavaScript has them as text, or as Buffers where they are no
// UTF-8.
#pragma once
#include "runtime/parameter.h"
#include "runtime/utf8.h"

namespace cephkit {

struct Path {
    std::string bytes;
    operator const char*() const { return bytes.c_str(); }
};

// The path of something that is to be made, removed or renamed, so not the root: on a path without a last
// name, libcephfs 16.2.15 aborts the process.
struct EntryPath : Path {
    static bool HasName(const std::string& bytes) {
        return bytes.find_first_not_of('/') != std::string::npos;
    }

    // The path of what it is in.
    std::string Parent() const {
        const size_t name = bytes.find_last_of('/', bytes.find_last_not_of('/'));
        if (name == std::string::npos) return ".";
        return bytes.substr(0, name + 1);
    }
};

inline std::string TakePath(Arguments& arguments) {
    const auto value = arguments.Next();
    std::string bytes = value.IsString() ? ToCString(arguments, value) : ToBytes(arguments, value);
    if (bytes.empty() || bytes.find('\0') != std::string::npos)
        throw arguments.Expected("a path that is not empty, without NUL");
    return bytes;
}

template <>
struct Parameter<const Path&> : PlainParameter<Path> {
    static Path Take(Arguments& arguments) { return {TakePath(arguments)}; }
};

template <>
struct Parameter<const EntryPath&> : PlainParameter<EntryPath> {
    static EntryPath Take(Arguments& arguments) {
        EntryPath path{{TakePath(arguments)}};
        if (!EntryPath::HasName(path.bytes)) throw arguments.Expected("the path of something in the root");
        return path;
    }
};

// Names of files, as bytes.
struct FileNames {
    std::vector<std::string> list;
};

template <>
struct Parameter<const FileNames&> : PlainParameter<FileNames> {
    static FileNames Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsArray()) throw arguments.Expected("an array");
        const auto array = value.As<Napi::Array>();
        FileNames names;
        for (uint32_t i = 0; i < array.Length(); i++)
            names.list.push_back(ToBytes(arguments, array.Get(i)));
        return names;
    }
};

// As text, or as a Buffer where that was asked for.
inline Value ToName(const char* syscall, std::string bytes, bool as_buffer) {
    if (as_buffer) return Bytes{std::move(bytes)};
    return Text(syscall, std::move(bytes));
}

}  // namespace cephkit
