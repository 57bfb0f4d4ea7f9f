// Names and keys of RADOS are bytes; in JavaScript they are text. One that is not would come out as another.
#pragma once
#include <string>

#include "runtime/failure.h"

namespace cephkit {

inline bool IsUtf8(const std::string& bytes) {
    const auto continues = [&](size_t at) {
        return at < bytes.size() && (static_cast<unsigned char>(bytes[at]) & 0xc0) == 0x80;
    };
    for (size_t at = 0; at < bytes.size(); at++) {
        const auto lead = static_cast<unsigned char>(bytes[at]);
        if (lead < 0x80) continue;
        const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (lead < 0xc2 || lead > 0xf4) return false;
        for (size_t i = 1; i < length; i++) {
            if (!continues(at + i)) return false;
        }
        // What fewer bytes could say, surrogates, and what is beyond Unicode.
        const auto second = static_cast<unsigned char>(bytes[at + 1]);
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
            (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
            return false;
        }
        at += length - 1;
    }
    return true;
}

// The bytes as they are, or a Failure that says what they should have been.
inline std::string Text(const char* syscall, std::string bytes) {
    if (!IsUtf8(bytes)) throw Failure{syscall, EILSEQ, "a name or key is not UTF-8"};
    return bytes;
}

}  // namespace cephkit
