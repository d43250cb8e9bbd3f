"""Words for needles and lists: a thing ("apple"), a thing with its look ("quiet-apple"), or with several."""

import math
import random

_ENGLISH = (
    """amber ancient autumn bashful bitter brave bright brisk broad bronze calm careful cheerful clever cloudy copper
    cosmic crimson curious daring dusty eager early elegant faint famous fancy fearless fierce fragile frosty gentle
    giant gifted glad golden graceful grand green happy hardy hidden hollow honest humble icy idle ivory jolly keen kind
    large lively lonely loud lucky mellow merry mighty misty modern modest narrow neat nimble noble northern odd olive
    orange pale patient plain polite proud purple quick quiet rapid rare royal rusty sandy scarlet shallow sharp shiny
    silent silver simple sleepy slender smooth snowy solemn sour southern spare steady still stormy strange sturdy
    subtle sunny swift tall tender tidy tiny velvet violet vivid warm wary western wild windy wise wooden young""",
    """acorn anchor apple apron arrow badge bakery balloon banjo barrel basket beacon beetle bell bench blanket bottle
    bracelet bridge broom bucket button cabin cactus camera canal candle canoe canyon carpet castle cello chapel cherry
    chimney cliff clock cloud clover coat comet compass copy cottage cradle crane crayon crown cup curtain cushion
    daisy desert desk dolphin donkey door dragon drum eagle engine envelope falcon farm feather fence ferry fiddle flag
    flute forest fork fountain fox garden gate glacier globe glove goose grape guitar hammer harbor harp hat hawk helmet
    hill honey horse island jacket jar jewel kettle key kite ladder lake lamp lantern leaf lemon letter lion lobster
    magnet maple market mask meadow melon mirror moon mountain mule museum needle nest net nut oak ocean onion orchard
    otter owl paddle palace panda paper parrot pearl pencil pepper piano pillow pilot planet plum pocket pond prism
    pumpkin puzzle quilt rabbit raft rain ribbon river robin rocket roof rope rose saddle sail salad sandal scarf school
    scissors shell ship shovel sofa spider spoon spring squirrel stable star statue stone stove sugar sunset swan table
    tailor teapot temple thread tiger timber tower trail train trumpet tulip tunnel turtle umbrella valley vase village
    violin wagon wallet walnut watch whale wheel window winter wolf zebra""",
)
_CHINESE = (
    """安静 明亮 古老 勇敢 温柔 快乐 神秘 遥远 聪明 金色 银色 红色 蓝色 绿色 白色 紫色 黑色 橙色 巨大 微小 轻巧 沉重
    柔软 坚硬 光滑 粗糙 温暖 寒冷 干燥 潮湿 新鲜 陈旧 简单 复杂 宽阔 狭窄 高大 矮小 明媚 昏暗 热闹 冷清 整齐 凌乱
    结实 脆弱 鲜艳 朴素 华丽 精致 普通 特别 古怪 可爱 严肃 活泼 懒散 勤劳 谨慎 大胆 诚实 谦虚 骄傲 孤独""",
    """苹果 河流 山峰 灯笼 钢琴 书包 雨伞 城堡 帆船 月亮 星星 太阳 云朵 花园 森林 草地 湖泊 海洋 沙漠 岛屿 桥梁 火车
    飞机 汽车 马车 风筝 气球 蜡烛 镜子 窗户 大门 屋顶 烟囱 楼梯 地毯 枕头 毛毯 沙发 书桌 椅子 茶壶 杯子 盘子 勺子
    筷子 剪刀 锤子 钉子 绳子 篮子 箱子 口袋 帽子 手套 围巾 外套 鞋子 戒指 项链 手表 时钟 铃铛 小鼓 笛子 提琴 吉他
    老虎 狮子 大象 兔子 狐狸 松鼠 猴子 熊猫 骆驼 山羊 白马 毛驴 公鸡 鸭子 天鹅 老鹰 鹦鹉 燕子 蝴蝶 蜜蜂 蜘蛛 乌龟
    海豚 鲸鱼 螃蟹 龙虾 玫瑰 菊花 荷花 竹子 松树 枫叶 橡果 核桃 葡萄 柠檬 西瓜 南瓜 洋葱 辣椒 蜂蜜 面包""",
)
_LISTS = {"en": _ENGLISH, "zh": _CHINESE}
_JOINTS = {"en": "-", "zh": ""}


def draw_keys(language: str, count: int, rng: random.Random) -> list[str]:
    """Distinct things with a look, as "quiet-apple"."""
    return _draw(language, count, rng, looks=1)


def draw_words(language: str, count: int, rng: random.Random) -> list[str]:
    """Distinct words of one form: things where there are enough, else with as many looks as it takes."""
    looks, things = (len(words.split()) for words in _LISTS[language])
    needed = 0
    while things * looks**needed < 2 * count:  # half of them at most, so that drawing ends soon
        needed += 1
    return _draw(language, count, rng, needed)


def _draw(language: str, count: int, rng: random.Random, looks: int) -> list[str]:
    look_words, thing_words = (words.split() for words in _LISTS[language])
    sizes = [len(look_words)] * looks + [len(thing_words)]
    words = []
    for number in rng.sample(range(math.prod(sizes)), count):
        parts = []
        for position, size in enumerate(sizes):
            number, index = divmod(number, size)
            parts.append((thing_words if position == looks else look_words)[index])
        words.append(_JOINTS[language].join(parts))
    return words
