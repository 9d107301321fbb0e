"""Names for layers that come from files, where a node may be called anything."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES = """
T_destination __annotations__ __call__ __class__ __delattr__ __dict__ __dir__ __doc__ __eq__ __format__ __ge__
__getattr__ __getattribute__ __getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __module__ __ne__
__new__ __reduce__ __reduce_ex__ __repr__ __setattr__ __setstate__ __sizeof__ __str__ __subclasshook__ __weakref__
_apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
_forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
_get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook _load_from_state_dict
_load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
_non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook _register_state_dict_hook
_replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
_wrapped_call_impl add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
network training
"""
RESERVED = frozenset(_NAMES.split())
"""Attributes of torch's modules that hold others, as of torch 2.13, and of `codesign.quant.module`'s."""


def module_names(names: Sequence[str]) -> dict[str, str]:
    """For each name of a layer the one it gets: its own, unless no torch module can have it.

    Layers become submodules, nested by their dots. A part of a name cannot be empty or one of a module's own
    attributes (`forward`), and what stands inside another layer gets underscores instead of dots, since that layer
    has attributes, too (`conv` and `conv.weight`).

    Args:
        names: of all layers, each once.
    """
    result: dict[str, str] = {}
    taken: set[str] = set()
    every = frozenset(names)
    for name in names:
        parts = [part or "_" for part in name.split(".")]
        parts = [f"{part}_" if part in RESERVED else part for part in parts]
        inside = any(".".join(parts[:count]) in every for count in range(1, len(parts)))
        wanted = ("_" if inside else ".").join(parts)
        found, count = wanted, 0
        while found in taken or (found != name and found in every):
            count += 1
            found = f"{wanted}_{count}"
        taken.add(found)
        result[name] = found
    return result
