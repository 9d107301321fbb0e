"""Every method by its name."""

from __future__ import annotations

from codesign.allocation.methods.adrl import Adrl
from codesign.allocation.methods.amed import Amed
from codesign.allocation.methods.apq import Apq
from codesign.allocation.methods.aq import Aq
from codesign.allocation.methods.autoq import AutoQ
from codesign.allocation.methods.bayesian_bits import BAYESIAN_BITS
from codesign.allocation.methods.bit_mixer import BitMixer
from codesign.allocation.methods.bp_nas import BP_NAS
from codesign.allocation.methods.bsq import BSQ
from codesign.allocation.methods.ddq import DDQ
from codesign.allocation.methods.dnas import DNAS
from codesign.allocation.methods.dq import DQ
from codesign.allocation.methods.edmips import EDMIPS
from codesign.allocation.methods.evoq import EvoQ
from codesign.allocation.methods.film_qnn import FilmQnn
from codesign.allocation.methods.fracbits import FRACBITS
from codesign.allocation.methods.haq import Haq
from codesign.allocation.methods.hawq import Hawq
from codesign.allocation.methods.hawq_v2 import HAWQ_V2
from codesign.allocation.methods.hawq_v3 import HAWQ_V3
from codesign.allocation.methods.hmq import HMQ
from codesign.allocation.methods.hybrid_net import HybridNet
from codesign.allocation.methods.impq import Impq
from codesign.allocation.methods.jasq import Jasq
from codesign.allocation.methods.limpq import Limpq
from codesign.allocation.methods.mpnasee import MPNASEE
from codesign.allocation.methods.mpqnnco import MPQNNCO
from codesign.allocation.methods.msq import Msq
from codesign.allocation.methods.obacwa import OBACWA
from codesign.allocation.methods.opq import Opq
from codesign.allocation.methods.own import Codesign
from codesign.allocation.methods.pdb import Pdb
from codesign.allocation.methods.profit import PROFIT
from codesign.allocation.methods.protocol import Method
from codesign.allocation.methods.releq import Releq
from codesign.allocation.methods.rmsmp import Rmsmp
from codesign.allocation.methods.slwp import SLWP
from codesign.allocation.methods.uniform import Uniform
from codesign.allocation.methods.zeroq import ZeroQ

_ALL: tuple[Method, ...] = (
    *(Codesign(), Rmsmp(), Impq(), Amed(), Hawq(), HAWQ_V2, HAWQ_V3, MPQNNCO, OBACWA, ZeroQ(), EvoQ(), Haq(), Releq()),
    *(Adrl(), AutoQ(), Jasq(), Apq()),
    *(EDMIPS, DNAS, BP_NAS, FRACBITS, HMQ, BAYESIAN_BITS, DQ, Limpq()),
    *(Msq(), FilmQnn(), Aq(), HybridNet(), Pdb()),
    *(SLWP, BSQ, BitMixer(), PROFIT),
    *(Opq(), MPNASEE, DDQ),
    Uniform(),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
